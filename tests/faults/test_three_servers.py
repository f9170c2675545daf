"""Three NATS servers, the log in three copies: its leader is killed under load and nothing is lost."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import httpx
import pytest

from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from tests.faults.model import FINAL
from tests.faults.real_run import AWAY
from tests.faults.rig import SETTINGS, Program, entries_after
from tests.faults.servers import Server, leader_and_copies
from tests.faults.verdict import History
from tests.integration.work_marshaling.cluster import Registry, node_record
from tests.integration.work_marshaling.processes import Process
from tests.support import waiting
from work_marshaling.leader import TERMS

ITEMS = 300
IN_FLIGHT = 8
GAP_SECONDS = 20.0


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_leader_of_the_log_dies_under_load(
    servers: list[Server], cluster: Bus, tmp_path: Path
) -> None:
    urls = ",".join(server.url for server in servers)
    registry = Registry(cluster)
    await registry.start()
    effects = tmp_path / "effects"
    marshalers = [Process(urls, name, **SETTINGS, WORK_STREAM_REPLICAS="3") for name in ("a", "b")]
    nodes = [Program("tests.faults.worker", urls, name, str(effects)) for name in ("n0", "n1")]
    for name in ("n0", "n1"):
        registry.nodes[name] = node_record(name, slots=4, fenced=True, work_types=["fault"])
    try:
        for node in nodes:
            await node.start()
        for marshaler in marshalers:
            await marshaler.start()
        for stream in (WORK_STREAM, f"KV_{TERMS.bucket}"):
            assert (await leader_and_copies(cluster, stream))[1] == 3
        accepted: set[str] = set()
        loading = asyncio.create_task(load([each.base for each in marshalers], accepted))
        await waiting.until(lambda: len(accepted) >= 40, 30)
        name, _ = await leader_and_copies(cluster)
        victim = next(server for server in servers if server.name == name)
        await victim.kill()
        killed_at, before = time.monotonic(), len(accepted)
        await waiting.until(lambda: len(accepted) > before + 20, 60)
        gap = time.monotonic() - killed_at
        await loading
        history = History()

        async def ended() -> bool:
            with contextlib.suppress(*AWAY):
                history.read(await entries_after(cluster, history.last_seq))
                items = history.model.items
                return len(items) >= len(accepted) and all(each.status in FINAL for each in items.values())
            return False

        with contextlib.suppress(TimeoutError):
            await waiting.until(ended, 60)
        found = history.complaints(accepted, executions(effects), {})
        print(f"\n{len(accepted)} accepted; {gap:.1f} s until 20 more were after the kill of {name}")
        assert found == []
        assert len(accepted) == ITEMS
        assert gap <= GAP_SECONDS
        await victim.start()
    finally:
        programs: list[Program | Process] = [*nodes, *marshalers]
        for program in programs:
            await program.end(signal.SIGKILL)


async def load(bases: list[str], accepted: set[str]) -> None:
    """Some at a time; each is said until a marshaler takes it, which is harmless: it has a name."""
    room = asyncio.Semaphore(IN_FLIGHT)

    async def submit(client: httpx.AsyncClient, number: int) -> None:
        payload = {"n": number, "kind": "ok", "seconds": 0.0}
        body = {"work_id": f"c-{number}", "work_type": "fault", "payload": payload, "timeout_seconds": 10}
        turn = number
        async with room:
            while f"c-{number}" not in accepted:
                turn += 1
                with contextlib.suppress(httpx.HTTPError):
                    url = f"{bases[turn % len(bases)]}/api/v1/work/submit"
                    if (await client.post(url, json=body)).status_code == 202:
                        accepted.add(f"c-{number}")
                await asyncio.sleep(0.1)

    async with httpx.AsyncClient(timeout=8) as client:
        await asyncio.gather(*(submit(client, number) for number in range(ITEMS)))


def executions(file: Path) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for line in file.read_text().splitlines():
        work_id, attempt = line.split()
        found[work_id, int(attempt)] = found.get((work_id, int(attempt)), 0) + 1
    return found
