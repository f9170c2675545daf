"""A synthetic fleet: documents of unlike machines and their heartbeats, seeded.

`python -m tests.perf.fleet URL NODES SECONDS` beats for all of them, in a process of its own.
"""

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import nats

from compute_common import subjects, wire_json

BEAT_SECONDS = 5.0
STEP_SECONDS = 0.005
ROUNDS = 2  # of different figures

_GPUS: tuple[tuple[str, int, int], ...] = (
    ("NVIDIA H100 80GB HBM3", 81559, 8),
    ("NVIDIA GeForce RTX 4090", 24564, 2),
    ("NVIDIA GeForce RTX 3090", 24576, 1),
    ("", 0, 0),
)


def fleet(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Node documents; every fourth machine has no GPU, every fourth has eight."""
    rng = random.Random(seed)  # noqa: S311 - a fleet, not a secret
    for number in range(count):
        name, vram_mb, gpus = _GPUS[number % len(_GPUS)]
        yield {
            "node_id": f"node-{number:05}",
            "hostname": f"host-{number:05}",
            "boot_id": f"boot-{number:05}",
            "cpu": {"cores": rng.choice((8, 16, 64)), "threads": 128, "model_name": "AMD EPYC 9354"},
            "memory": {"total_mb": rng.choice((65536, 262144, 524288)), "available_mb": 60000},
            "gpus": [gpu(index, name, vram_mb) for index in range(gpus)],
            "platform": "cuda" if gpus else "cpu",
            "labels": {"rack": f"r{number % 50}"},
            "heartbeat_seconds": 5,
            "managed": True,
            "work_types": ["inference"],
            "slots": 4,
        }


def gpu(index: int, name: str, vram_mb: int) -> dict[str, Any]:
    return {"index": index, "uuid": f"GPU-{index:08}", "name": name, "vram_mb": vram_mb, "vendor": "nvidia"}


def heartbeat(node_id: str, rng: random.Random) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "boot_id": f"boot-{node_id[5:]}",
        "cpu_utilization": round(rng.random(), 3),
        "memory_utilization": round(rng.random(), 3),
        "gpu_utilization": [round(rng.random(), 2) for _ in range(2)],
        "active_jobs": rng.randrange(8),
        "status": "online",
        "available_vram_mb": rng.randrange(80_000),
        "available_memory_mb": rng.randrange(500_000),
    }


async def beat_for(url: str, nodes: int, seconds: float) -> None:
    """Heartbeats of the whole fleet, evenly over each beat."""
    client = await nats.connect(url)
    rng = random.Random(2)  # noqa: S311
    ids = [f"node-{number:05}" for number in range(nodes)]
    bodies = [[wire_json.dump(heartbeat(node_id, rng)) for node_id in ids] for _round in range(ROUNDS)]
    started, sent = time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        due = int(passed / BEAT_SECONDS * nodes)
        for number in range(sent, due):
            place = number * 7919 % nodes
            await client.publish(subjects.NODES_HEARTBEAT, bodies[number // nodes % ROUNDS][place])
        sent = due
        await asyncio.sleep(STEP_SECONDS)
    await client.close()


if __name__ == "__main__":
    asyncio.run(beat_for(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
