"""A queue that is full and a disk that is full: refused in clear words, nothing dropped, healed by itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from compute_common import subjects, wire_json
from compute_common.bus import Bus, Message
from compute_common.bus_auth import NatsSettings
from compute_common.jetstream import WORK_STREAM
from tests.faults.rig import SETTINGS, Program, entries_after
from tests.faults.servers import Server
from tests.faults.verdict import History
from tests.integration.work_marshaling.cluster import Registry, node_record
from tests.integration.work_marshaling.processes import Process
from tests.support import waiting
from tests.support.ports import free_ports

ROOM = 30
PAYLOAD = {"n": 1, "kind": "ok", "seconds": 0.0}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """With eight megabytes of disk."""
    (port,) = free_ports(1)
    own = Server(tmp_path / "small", "small", port, disk="8MB")
    await own.start()
    yield own
    await own.kill()


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[Bus]:
    own = Bus(NatsSettings(NATS_URL=server.url), "test")
    own.start()
    assert await own.wait_connected(5)
    yield own
    await own.stop()


@pytest.fixture
async def marshaler(server: Server) -> AsyncIterator[Process]:
    own = Process(server.url, "a", **SETTINGS, WORK_MAX_PENDING=str(ROOM))
    await own.start()
    yield own
    await own.end()


@pytest.fixture
async def node(server: Server, tmp_path: Path) -> AsyncIterator[Program]:
    """Not started; its effects are in `<tmp_path>/effects`."""
    (tmp_path / "effects").touch()
    own = Program("tests.faults.worker", server.url, "n0", str(tmp_path / "effects"))
    yield own
    await own.end()


async def join(bus: Bus, node: Program) -> None:
    """Start the node; once it has spoken it is in the registry's table."""
    announced: list[Message] = []

    async def note(message: Message) -> None:
        announced.append(message)

    await bus.subscribe(subjects.NODES_ANNOUNCE, note)
    await bus.flush()
    await node.start()
    await waiting.until(lambda: bool(announced), 20)
    registry = Registry(bus)
    await registry.start()
    registry.nodes["n0"] = node_record("n0", slots=4, fenced=True, work_types=["fault"])


def executed(tmp_path: Path) -> list[str]:
    return sorted(line.split()[0] for line in (tmp_path / "effects").read_text().splitlines())


async def test_a_full_queue_says_when_to_come_again(
    server: Server, bus: Bus, marshaler: Process, node: Program, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=marshaler.base, timeout=10) as client:

        async def submit(number: int) -> httpx.Response:
            body = {"work_id": f"q-{number}", "work_type": "fault", "payload": PAYLOAD}
            return await client.post("/api/v1/work/submit", json=body)

        answers = [await submit(number) for number in range(ROOM + 10)]
        assert [answer.status_code for answer in answers] == [202] * ROOM + [429] * 10
        refusal = answers[-1]
        assert int(refusal.headers["Retry-After"]) > 0
        assert refusal.json()["type"] == "urn:compute:error:queue-full"
        history = History()
        history.read(await entries_after(bus, 0))
        assert len(history.model.items) == ROOM
        await join(bus, node)

        async def later() -> bool:
            return all([(await submit(number)).status_code == 202 for number in range(ROOM, ROOM + 10)])

        await waiting.until(later, 20)
        everything = sorted(f"q-{number}" for number in range(ROOM + 10))
        await waiting.until(lambda: executed(tmp_path) == everything, 20)


async def test_a_full_disk_refuses_and_drops_nothing(
    server: Server, bus: Bus, marshaler: Process, node: Program, tmp_path: Path
) -> None:
    js = bus.jetstream()
    await js.publish(subjects.WORK_SUBMIT, wire_json.dump(submission("first")))
    await js.publish(subjects.WORK_PROGRESS, wire_json.dump({"work_id": "x", "fill": "x" * 500_000}))
    async with httpx.AsyncClient(base_url=marshaler.base, timeout=10) as client:

        async def filled() -> bool:
            """Until even a small message is refused."""
            for size in (400_000, 20_000, 500):
                filler = wire_json.dump({"work_id": "x", "fill": "x" * size})
                receipt = await bus.client.request(subjects.WORK_PROGRESS, filler, timeout=5)
                if b'"error"' not in receipt.data:
                    return False
            return True

        await waiting.until(filled, 30)
        answer = await client.post("/api/v1/work/submit", json=submission("refused"))
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert "disk" in answer.json()["detail"]
        history = History()
        history.read(await entries_after(bus, 0))
        assert list(history.model.items) == ["first"]
        await join(bus, node)
        assert (await client.get("/api/v1/work/first")).json()["status"] == "pending"
        await js.purge_stream(WORK_STREAM, keep=0, subject=subjects.WORK_PROGRESS)

        async def taken() -> bool:
            return (await client.post("/api/v1/work/submit", json=submission("again"))).status_code == 202

        await waiting.until(taken, 20)
        await waiting.until(lambda: executed(tmp_path) == ["again", "first"], 20)


def submission(work_id: str) -> dict[str, object]:
    return {"work_id": work_id, "work_type": "fault", "payload": PAYLOAD}
