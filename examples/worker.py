"""A node with a skill of its own: NATS_URL=nats://127.0.0.1:4222 NODE_ID=counter python examples/worker.py"""

import asyncio
import os

from compute_node import Job, Worker, WorkError

worker = Worker(os.environ.get("NODE_ID", "python-worker"), concurrency=4, announce=True)


@worker.handles("word-count")
async def count(job: Job) -> object:
    if not isinstance(text := job.payload.get("text"), str):
        raise WorkError("text is missing", retryable=False)
    await job.progress({"percent": 50})
    return {"words": len(text.split())}


asyncio.run(worker.run())
