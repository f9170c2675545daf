"""64 clients at once, half by HTTP and half over NATS, on a service of its own: no MiB is promised twice."""

import asyncio
import json
import random
from pathlib import Path

import nats

from tests.integration.gpu_orchestrator.processes import running
from tests.perf.ledger_load import Connection
from tests.support.ledger_clients import ByHttp, ByNats, Ledger, TwoCards
from tests.support.nats import NatsServer
from tests.support.nvml import Played, scenarios
from tests.support.ports import free_port

CLIENTS = 32  # of each kind
OPERATIONS = 25  # of each client
MARGIN_MB = 256


async def test_no_mib_is_promised_twice(tmp_path: Path, nvml_library: Path, nats_server: NatsServer) -> None:
    scenario = scenarios.unlike_pair()
    played = Played(nvml_library, scenario, tmp_path)
    room = {n: (gpu.memory_mib or 0) - gpu.used_mib - MARGIN_MB for n, gpu in enumerate(scenario.gpus)}
    cards = TwoCards(room)
    port = free_port()
    more = {"NATS_URL": nats_server.url, "NATS_WAIT_SECONDS": "5", **played.environment}
    with running(tmp_path, port, **more):
        ledgers: list[Ledger] = []
        for _ in range(CLIENTS):
            ledgers.append(ByHttp(Connection(*await asyncio.open_connection("127.0.0.1", port))))
            ledgers.append(ByNats(await nats.connect(nats_server.url)))
        dice = random.Random(64)  # noqa: S311  (a seed, no secret)
        await asyncio.gather(*(cards.use(each, random.Random(dice.random()), OPERATIONS) for each in ledgers))  # noqa: S311
        cards.assert_never_overbooked()
        assert cards.refused > CLIENTS
        probe = Connection(*await asyncio.open_connection("127.0.0.1", port))
        _, answer = await probe.ask(b"GET /api/v1/gpu/states HTTP/1.1\r\nHost: l\r\n\r\n")
        probe.close()
    states = json.loads(answer)["gpus"]
    assert [gpu["reserved_mb"] for gpu in states] == [0, 0]
    assert [gpu["available_mb"] for gpu in states] == [room[0], room[1]]
