"""A node of the SDK that writes down what it executes: `python -m tests.faults.worker URL NODE_ID FILE`."""

import asyncio
import os
import sys

from compute_common.shell.logging import configure_logging
from compute_node import Job, Worker
from compute_node.job import WorkError


def worker(url: str, node_id: str, effects: str) -> Worker:
    """One line per execution, written before anything else: it outlives a kill -9."""
    made = Worker(node_id, nats_url=url, concurrency=4, announce=True, heartbeat_seconds=0.5)
    file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @made.handles("fault")
    async def run(job: Job) -> object:
        os.write(file, f"{job.work_id} {job.attempt}\n".encode())
        await asyncio.sleep(job.payload["seconds"])
        kind = job.payload["kind"]
        if kind == "broken" or (kind == "flaky" and job.attempt < 3):
            raise WorkError("as told", retryable=kind == "flaky")
        return {"n": job.payload["n"]}

    return made


if __name__ == "__main__":
    configure_logging("fault-worker", "ERROR")
    asyncio.run(worker(*sys.argv[1:4]).run())
