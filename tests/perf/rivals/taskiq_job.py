"""The job that does nothing, on taskiq with JetStream; runs in `.rivals`.

`taskiq worker taskiq_job:broker` serves it; `python taskiq_job.py COUNT` submits so many, waits for their
end and prints jobs per second. RIVAL_NATS is the server; RIVAL_RESULTS=1 keeps results, in the only store
that taskiq-nats has for them.
"""
# mypy: disable-error-code="import-not-found,untyped-decorator,no-any-return"

import asyncio
import os
import sys
import time

from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

IN_FLIGHT = 500
SERVER = os.environ["RIVAL_NATS"]
KEPT = os.environ.get("RIVAL_RESULTS") == "1"

broker = PullBasedJetStreamBroker(SERVER, pull_consume_batch=100, pull_consume_timeout=1)
if KEPT:
    broker = broker.with_result_backend(NATSObjectStoreResultBackend(SERVER))


@broker.task
async def nothing(number: int) -> int:
    return number


async def ended() -> bool:
    """Every job executed and acknowledged (a result is stored before that)."""
    info = await broker.js.consumer_info("taskiq_jetstream", "taskiq_durable")
    return info.num_pending + info.num_ack_pending == 0


async def jobs_per_s(count: int) -> float:
    started = time.perf_counter()
    for start in range(0, count, IN_FLIGHT):
        await asyncio.gather(*(nothing.kiq(number) for number in range(start, min(count, start + IN_FLIGHT))))
    while not await ended():  # noqa: ASYNC110 - there is nothing to be told by
        await asyncio.sleep(0.02)
    return count / (time.perf_counter() - started)


async def main(counts: list[int]) -> None:
    await broker.startup()
    for count in counts:
        print(f"{await jobs_per_s(count):.0f}", flush=True)
    await broker.shutdown()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main([int(word) for word in sys.argv[1:]]))
