"""Records a machine with NVIDIA GPUs while memory of GPU 0 grows: see README.md."""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpu_orchestrator.service import GpuOrchestrator
from gpu_orchestrator.settings import Settings
from resource_detector.service import ResourceDetector
from resource_detector.settings import Settings as DetectorSettings
from tests.support.apps import serving

Json = dict[str, Any]
OF_THE_HARDWARE = ("tier", "tier_reason", "platform", "cpu", "memory", "gpus", "warnings")
GROWING = """
import ctypes, sys, time
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
free, total = ctypes.c_size_t(), ctypes.c_size_t()
def ask(call, *arguments): assert getattr(cuda, call)(*arguments) == 0, call
ask("cuInit", 0)
ask("cuCtxCreate_v2", ctypes.byref(context), 0, 0)
ask("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
for _ in range(free.value // 2 >> 26):
    ask("cuMemAlloc_v2", ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(64 << 20))
    time.sleep(1)
sys.stdin.read()
"""


async def record(seconds: float, every: float) -> Json:
    """What the detector found, and the states and the forecast of every look."""
    with tempfile.TemporaryDirectory() as home:
        given: Json = {
            "NATS_URL": "nats://127.0.0.1:1",
            "NATS_WAIT_SECONDS": 0.01,
            "NODE_ID": "recorded",
            "COMPUTE_HOME": home,
        }
        detector = ResourceDetector(DetectorSettings.model_validate({**given, "NODE_HOSTNAME": "recorded"}))
        ledger = GpuOrchestrator(Settings.model_validate({**given, "GPU_POLL_SECONDS": min(1, every)}))
        async with serving(detector) as hardware, serving(ledger) as gpus:
            found = (await hardware.get("/api/v1/detect")).json()
            ask = {"gpu_indices": [0], "required_mb": 1024, "owner": "recording"}
            made = await gpus.post("/api/v1/gpu/reserve", json=ask)
            looks: list[Json] = []
            with subprocess.Popen(  # noqa: ASYNC220 - started once, before anything waits
                [sys.executable, "-c", GROWING], stdin=subprocess.PIPE
            ) as growing:
                if made.is_success:
                    path = f"/api/v1/gpu/reservations/{made.json()['reservation_id']}/bind"
                    await gpus.post(path, json={"pid": growing.pid})
                while len(looks) * every < seconds:
                    states = (await gpus.get("/api/v1/gpu/states")).json()
                    forecast = (await gpus.get("/api/v1/gpu/memory")).json()
                    looks.append({"states": states, "memory": forecast})
                    print(f"look {len(looks)}", flush=True)
                    await asyncio.sleep(every)
                growing.kill()
    return {"detected": {key: found[key] for key in OF_THE_HARDWARE if key in found}, "looks": looks}


def anonymous(recording: Json) -> str:
    """As JSON without UUIDs and program names."""
    gpus = [gpu for look in recording["looks"] for gpu in look["states"]["gpus"]]
    for process in (each for gpu in gpus for each in gpu["processes"]):
        process["name"] = None
    text = json.dumps(recording, indent=1) + "\n"
    for uuid, index in {(gpu["uuid"], gpu["index"]) for gpu in gpus}:
        text = text.replace(uuid, f"GPU-{index}")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--every", type=float, default=1)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    written = anonymous(asyncio.run(record(options.seconds, options.every)))
    (options.into / f"{options.name}.json").write_text(written)
