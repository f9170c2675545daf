"""NATS is back, but its storage does not answer: said in one line, and made up for as soon as it does."""

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from compute_common.bus import Bus
from compute_common.jetstream import INSTANCES_BUCKET, ensure_bucket
from compute_common.problems import unavailable
from tests.integration.vllm_orchestrator.hosts import INSTANCES, orchestrator
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until
from vllm_orchestrator.instances.catch_up import CatchUp
from vllm_orchestrator.service import VllmOrchestrator

DATA = Path(__file__).parents[2] / "data"


class StopsAtReconnect:
    """Stands the server still at the moment it is connected again, before anybody asks its storage."""

    def __init__(self, server: NatsServer, service: VllmOrchestrator) -> None:
        self._server = server
        self._connects = 0
        self.stopped: int | None = None
        service.bus.on_connect(self._hook)

    async def _hook(self) -> None:
        self._connects += 1
        if self._connects == 2 and self._server.process is not None:
            self.stopped = self._server.process.pid
            os.kill(self.stopped, signal.SIGSTOP)

    def go_on(self) -> None:
        if self.stopped is not None:
            os.kill(self.stopped, signal.SIGCONT)


def elsewhere() -> dict[str, Any]:
    buckets: dict[str, dict[str, Any]] = json.loads((DATA / "state-0.1.0" / "buckets.json").read_text())
    return buckets[INSTANCES_BUCKET]


def warnings(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """What was said of instances since, worse than information; tracebacks count wherever they are."""
    told = [each.msg for each in caplog.records if each.levelno >= logging.WARNING]
    return [
        each
        for each in told
        if isinstance(each, dict) and (each.get("logger") == "instances" or "exception" in each)
    ]


async def test_storage_that_times_out_at_a_reconnect_is_one_line_and_made_up_for(
    nats_server: NatsServer, bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = orchestrator(nats_server, tmp_path, INSTANCE_REPEAT_SECONDS=60)
    still = StopsAtReconnect(nats_server, service)
    async with serving(service) as client:
        await until(service.is_ready)
        values = await ensure_bucket(bus.jetstream(), INSTANCES_BUCKET)
        for name, record in elsewhere().items():  # of another host; nothing tells us of it but the bucket
            await values.put(name, json.dumps(record).encode())
        assert (await client.get(INSTANCES)).json()["count"] == 0
        caplog.clear()
        nats_server.stop(kill=True)
        nats_server.start()
        try:
            await until(lambda: still.stopped is not None)
            await until(lambda: bool(warnings(caplog)), 20)
        finally:
            still.go_on()
        (line,) = warnings(caplog)
        assert line["level"] == "warning"
        assert "TimeoutError" in line["reason"]
        assert line["again_in_seconds"] > 0

        async def found() -> bool:
            return bool((await client.get(INSTANCES)).json()["count"])

        await until(found, 20)  # long before the 60 s of a repetition
        assert len(warnings(caplog)) == 1
        assert "up to date again" in caplog.text


async def test_a_storage_that_stays_away_is_said_once(bus: Bus) -> None:
    catch_up = CatchUp(bus, 60)

    async def refuse() -> None:
        raise unavailable("storage", "not now")

    async def nothing() -> None:
        return

    with capture_logs() as told:
        for _outage in range(2):
            for _try in range(3):
                await catch_up.attempt(refuse)
                assert catch_up.behind
            await catch_up.attempt(nothing)
            assert not catch_up.behind
    assert [line["log_level"] for line in told] == ["warning", "info"] * 2
