"""The ledger as a process of its own, its journal synced before every answer, NATS told of every change.

The load comes from another process over raw sockets (ledger_load.py). Run by `make bench`.
"""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.gpu_orchestrator.processes import running
from tests.perf.ledger_load import Connection
from tests.support.ledger_clients import ByHttp, TwoCards
from tests.support.nats import NatsServer
from tests.support.nvml import Played, scenarios
from tests.support.nvml.fixture import nvml_library
from tests.support.ports import free_port

__all__ = ["nvml_library"]
ROOT = Path(__file__).parent.parent.parent
CONNECTIONS = 32
OFFERED_PER_S = 100
PAIR_P99_MS = 10.0
PAIRS_PER_S = 700.0
OPERATIONS = 100_000
MARGIN_MB = 256


def load(port: int, seconds: float, rate: float) -> dict[str, Any]:
    argv = [
        sys.executable,
        "-m",
        "tests.perf.ledger_load",
        str(port),
        str(CONNECTIONS),
        str(seconds),
        str(rate),
    ]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_reserve_and_release(tmp_path: Path, nats_server: NatsServer) -> None:
    port = free_port()
    with running(
        tmp_path, port, NATS_URL=nats_server.url, NATS_WAIT_SECONDS="5", LOG_LEVEL="INFO"
    ) as process:
        offered = load(port, 20, OFFERED_PER_S)
        closed = load(port, 10, 0)
        rss = psutil.Process(process.pid).memory_info().rss >> 20
    print(
        f"\n{OFFERED_PER_S} pairs/s offered over {CONNECTIONS} connections: p50 {offered['p50_ms']:.1f}, "
        f"p99 {offered['p99_ms']:.1f}, max {offered['max_ms']:.1f} ms (sent late by "
        f"{offered['send_lateness_p99_ms']:.1f} ms at p99); closed loop {closed['pairs_per_s']:.0f} pairs/s, "
        f"p50 {closed['p50_ms']:.1f}, p99 {closed['p99_ms']:.1f} ms; RSS {rss} MiB"
    )
    assert offered["errors"] == closed["errors"] == 0
    assert offered["p99_ms"] <= PAIR_P99_MS
    assert closed["pairs_per_s"] >= PAIRS_PER_S


@pytest.mark.timeout(300)
async def test_nothing_is_overbooked_through_the_service(
    tmp_path: Path, nvml_library: Path, nats_server: NatsServer
) -> None:
    """100,000 random operations of 32 clients on two cards."""
    scenario = scenarios.unlike_pair()
    played = Played(nvml_library, scenario, tmp_path)
    cards = TwoCards({n: (c.memory_mib or 0) - c.used_mib - MARGIN_MB for n, c in enumerate(scenario.gpus)})
    port = free_port()
    with running(tmp_path, port, NATS_URL=nats_server.url, NATS_WAIT_SECONDS="5", **played.environment):
        clients = [
            ByHttp(Connection(*await asyncio.open_connection("127.0.0.1", port))) for _ in range(CONNECTIONS)
        ]
        each = OPERATIONS // CONNECTIONS
        await asyncio.gather(*(cards.use(c, random.Random(n), each) for n, c in enumerate(clients)))  # noqa: S311
    print(f"\n{OPERATIONS} operations through the service, {cards.refused} refused: 0 MiB overbooked")
    cards.assert_never_overbooked()
