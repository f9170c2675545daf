"""The queue's own speed: jobs a second, from submission to start, submissions over REST, a deep backlog.

Two cores carry everything (NATS, registry, marshaler, two workers, the load), so whatever else runs on the
machine shows: what is asserted are loose floors, the figures are for docs/performance.md.
"""

import asyncio
import os
import statistics
import sys
import time

import httpx
import pytest
from nats.aio.msg import Msg

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from tests.integration.work_marshaling.processes import Process
from tests.perf import queue_rig as rig
from tests.perf.ledger_load import percentile
from tests.support import waiting
from tests.support.nats import NatsServer

TURNS = 5
RATE = 200
SECONDS = 10
DEEP = 100_000


@pytest.mark.timeout(300)
async def test_jobs_per_second(nats_server: NatsServer) -> None:
    async with (
        rig.registry(nats_server) as base,
        rig.marshaler(nats_server) as process,
        rig.workers(nats_server, base, 2),
    ):
        await rig.submitter(nats_server, process.base, 1000)
        rates = [await rig.submitter(nats_server, process.base, 10_000) for _ in range(TURNS)]
    shown = " ".join(f"{rate:.0f}" for rate in sorted(rates))
    print(f"\n10,000 jobs in each of {TURNS} turns: {shown} jobs/s; load {os.getloadavg()[0]:.1f}")
    assert max(rates) >= 2000


@pytest.mark.timeout(300)
async def test_from_submission_to_start(nats_server: NatsServer, bus: Bus) -> None:
    async with (
        rig.registry(nats_server) as base,
        rig.marshaler(nats_server) as process,
        rig.workers(nats_server, base, 2, slots=50),
    ):
        await rig.submitter(nats_server, process.base, 1000)
        spans, lateness = await starts(bus, RATE, SECONDS)
    middle, most, late = percentile(spans, 0.5), percentile(spans, 0.99), percentile(lateness, 0.99)
    print(f"\n{RATE}/s: start after p50 {middle * 1000:.1f} ms, p99 {most * 1000:.1f} ms;", end=" ")
    print(f"sent late p99 {late * 1000:.1f} ms; load {os.getloadavg()[0]:.1f}")
    assert len(spans) == RATE * SECONDS
    assert percentile(spans, 0.5) < 0.05


async def starts(bus: Bus, rate: int, seconds: int) -> tuple[list[float], list[float]]:
    """Seconds from a job's publishing until its worker's handler runs, and how late it was published.

    The handler's result is its clock's time, the same clock on one host.
    """
    spans: list[float] = []
    lateness: list[float] = []
    sent_at: dict[int, float] = {}

    async def completed(msg: Msg) -> None:
        result = wire_json.parse_object(msg.data)["result"]
        spans.append(result["started"] - sent_at[result["number"]])

    subscription = await bus.client.subscribe(subjects.WORK_COMPLETED, cb=completed)
    begin = time.time() + 0.1
    for number in range(rate * seconds):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.time()))
        sent_at[number] = time.time()
        lateness.append(sent_at[number] - due)
        body = {"work_type": "clock", "payload": {"number": number}}
        await bus.client.publish(subjects.WORK_SUBMIT, wire_json.dump(body))
    await waiting.until(lambda: len(spans) == rate * seconds, 30)
    await subscription.unsubscribe()
    return spans, lateness


@pytest.mark.timeout(300)
async def test_submissions_over_rest(nats_server: NatsServer) -> None:
    async with rig.marshaler(nats_server, WORK_MAX_PENDING="5000000") as process:
        await rest(process, 8, 1, 1)
        single = [await rest(process, 16, 3, 1) for _ in range(TURNS)]
        batches = [await rest(process, 4, 3, 100) for _ in range(TURNS)]
    print(f"\nsingle: {ordered(single)} a second; batches of 100: {ordered(batches)} items a second")
    assert max(single) >= 500
    assert max(batches) >= 3000


async def rest(process: Process, connections: int, seconds: int, batch: int) -> float:
    words = (str(word) for word in (process.port, connections, seconds, batch))
    load = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.perf.submit_load", *words, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(load.communicate(), seconds + 60)
    return float(output)


@pytest.mark.timeout(400)
async def test_a_deep_backlog_does_not_slow_assignment(nats_server: NatsServer, bus: Bus) -> None:
    """Beside a backlog that nobody takes, 100 items and 100,000; and out of a backlog of 100,000."""
    async with rig.registry(nats_server) as base, rig.marshaler(nats_server) as process:
        async with rig.workers(nats_server, base, 2):
            await rig.submit_all(bus, 100, "nobody")
            await rig.submitter(nats_server, process.base, 2000)
            shallow = [await rig.submitter(nats_server, process.base, 5000) for _ in range(TURNS)]
            await rig.submit_all(bus, DEEP, "nobody")
            await rig.submitter(nats_server, process.base, 2000)
            deep = [await rig.submitter(nats_server, process.base, 5000) for _ in range(TURNS)]
        await rig.submit_all(bus, DEEP)
        async with rig.workers(nats_server, base, 2):
            draining = [await drained(process, 5000) for _ in range(TURNS)]
    print(f"\nbeside 100: {ordered(shallow)} jobs/s; beside {DEEP}: {ordered(deep)} jobs/s;", end=" ")
    print(f"out of {DEEP}: {ordered(draining)} jobs/s; load {os.getloadavg()[0]:.1f}")
    usual = statistics.median(shallow)
    print(f"ratios {statistics.median(deep) / usual:.2f} and {statistics.median(draining) / usual:.2f}")
    assert min(statistics.median(deep), statistics.median(draining)) >= usual * 0.5


async def drained(process: Process, count: int) -> float:
    """Jobs per second that end, over so many."""
    async with httpx.AsyncClient(base_url=process.base) as client:
        started, before = time.perf_counter(), await rig.completed(client)
        while (now := await rig.completed(client)) < before + count:  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.02)
        return (now - before) / (time.perf_counter() - started)


def ordered(rates: list[float]) -> str:
    return " ".join(f"{rate:.0f}" for rate in sorted(rates))
