"""A worker whose jobs do nothing: `python -m tests.perf.queue_worker NATS_URL NODE_ID SLOTS`."""

import sys
import time

from compute_common.shell.logging import configure_logging
from compute_node import Job, Worker


def worker(url: str, node_id: str, slots: int) -> Worker:
    made = Worker(node_id, nats_url=url, concurrency=slots, announce=True)

    @made.handles("nothing")
    async def nothing(job: Job) -> object:
        return job.payload["number"]

    @made.handles("clock")
    async def clock(job: Job) -> object:
        return {"number": job.payload["number"], "started": time.time()}

    return made


async def main(url: str, node_id: str, slots: int) -> None:
    await worker(url, node_id, slots).run()


if __name__ == "__main__":
    import uvloop

    configure_logging("queue-worker", "WARNING")
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
