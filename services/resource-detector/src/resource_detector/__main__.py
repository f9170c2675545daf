"""`python -m resource_detector [root]`: look once and print it as JSON; `root` is a recorded tree."""

import json
import sys
import time
from pathlib import Path

from compute_common.times import utc_now
from resource_detector.answers import detect_answer
from resource_detector.detection import Roots, detect
from resource_detector.detector import Detected
from resource_detector.document import node_document
from resource_detector.sources.nvidia import NvmlReader


def main(arguments: list[str]) -> None:
    """The answer of `GET /api/v1/detect`, without a service."""
    nvml = NvmlReader()
    started = time.perf_counter()
    hardware = detect(Roots.under(Path(arguments[0] if arguments else "/")), nvml, disks=(Path("/"),))
    seconds = time.perf_counter() - started
    nvml.close()
    document = node_document(hardware, hardware.host.hostname, heartbeat_seconds=5, labels={})
    answer = detect_answer(Detected(hardware, utc_now(), seconds), document)
    print(json.dumps(answer.model_dump(mode="json", exclude_none=True), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
