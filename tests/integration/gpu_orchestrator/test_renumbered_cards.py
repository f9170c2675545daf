"""A card whose place another took is looked for until it is back: the reader alone, on a played clock."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.support.nvml import Played
from tests.support.nvml.scenarios import unlike_pair, uuid

# Reads the machine named on each line of its input, that many seconds later, and tells what it saw.
READER = """
import json, os, sys
from gpu_orchestrator.nvml import Nvml
now = 0.0
nvml = Nvml(clock=lambda: now)
for line in sys.stdin:
    machine, seconds = json.loads(line)
    now += seconds
    with open(os.environ["NVML_SCENARIO"] + ".new", "w") as file:
        file.write(machine)
    os.replace(os.environ["NVML_SCENARIO"] + ".new", os.environ["NVML_SCENARIO"])
    print(json.dumps([[gpu.index, gpu.uuid, gpu.health] for gpu in nvml.read()]))
"""


def test_a_card_that_comes_back_after_others_took_its_place(nvml_library: Path, tmp_path: Path) -> None:
    whole = unlike_pair()
    restarting = replace(whole, errors={"nvmlDeviceGetCount": 999})
    alone = replace(whole, gpus=whole.gpus[1:])
    steps = [
        (whole, 0),
        (restarting, 1),
        (alone, 6),  # a new start: the second card is the first now
        (alone, 10),
        (alone, 40),  # looked for in vain
        (alone, 40),  # a new start, just before the card is back
        (whole, 29),
        (whole, 2),  # due: this reading still is the start's before
        (whole, 1),
    ]
    lines = "".join(json.dumps([machine.text(), seconds]) + "\n" for machine, seconds in steps)
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=lines,
        env={**os.environ, **Played(nvml_library, whole, tmp_path).environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    both = [[0, uuid(0), "ok"], [1, uuid(1), "ok"]]
    assert seen[0] == both
    assert [health for _, _, health in seen[1]] == ["lost", "lost"]
    assert seen[2:6] == [[[0, uuid(1), "ok"]]] * 4
    assert seen[-1] == both
