"""The work log that an older release left behind, in a real server, with a marshaler of today over it.

A server stamps what is published anew, and epochs are its clock: so the epochs in the log are said as today's
server gives them. The snapshot, which holds its epoch itself, is put back as it was, byte for byte.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.js import JetStreamContext
from nats.js.api import ObjectMeta

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.jetstream import SNAPSHOTS_BUCKET, WORK_STREAM, ensure_stream, work_stream
from tests.integration.work_marshaling.cluster import Registry, ended, marshaling, plain_worker, submit
from tests.support.nats import NatsServer
from work_marshaling.events import Record
from work_marshaling.kept import Limits
from work_marshaling.log_reader import FOLLOWS
from work_marshaling.snapshot import restored
from work_marshaling.snapshots import NAMES
from work_marshaling.state import WorkState

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(ROOT.joinpath("data").glob("state-*"))
BEFORE_COMPARE = ROOT / "unit/work_marshaling/logs/before_compare_and_set.jsonl"
WORK_TYPE = "nobody-does-this"  # until today


@pytest.fixture(params=FOLDERS, ids=lambda path: str(path.name))
def old(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads((folder / "work-log.json").read_text())
    return lines


def folded(lines: list[dict[str, Any]], limits: Limits | None = None) -> WorkState:
    state = WorkState(limits or Limits())
    for line in lines:
        state.apply(record_of(line, line["time"]))
    return state


def record_of(line: dict[str, Any], time: float) -> Record:
    return Record(line["seq"], time, line["subject"], line["body"].encode(), line.get("follows"))


async def publish(js: JetStreamContext, line: dict[str, Any]) -> None:
    """Put one line of an old log where it was."""
    follows = line.get("follows")
    headers = None if follows is None else {FOLLOWS: str(follows)}
    ack = await js.publish(line["subject"], line["body"].encode(), headers=headers)
    assert ack.seq == line["seq"]


async def put_back(js: JetStreamContext, lines: list[dict[str, Any]]) -> None:
    """The whole log, with epochs of this server's clock."""
    was, now, epochs = WorkState(Limits()), WorkState(Limits()), dict[int, int]()
    for line in lines:
        body = json.loads(line["body"])
        body |= {"epoch": epochs[body["epoch"]]} if body.get("epoch") in epochs else {}
        await publish(js, {**line, "body": json.dumps(body)})
        stamped = (await js.get_msg(WORK_STREAM, line["seq"])).time
        assert stamped is not None
        was.apply(record_of(line, line["time"]))
        now.apply(record_of({**line, "body": json.dumps(body)}, stamped.timestamp()))
        epochs[was.epoch] = now.epoch


async def put_snapshot(js: JetStreamContext, data: bytes) -> int:
    """The snapshot as the service keeps it, of this very log; its position."""
    *_parts, state = restored(data, Limits())
    created = str((await js.stream_info(WORK_STREAM)).created)
    label = json.dumps({"created": created, "position": state.position})
    store = await js.create_object_store(SNAPSHOTS_BUCKET)
    await store.put(NAMES[0], data, ObjectMeta(name=NAMES[0], description=label))
    return state.position


async def compare(client: httpx.AsyncClient, meant: WorkState, late: Iterable[str] = ()) -> None:
    """The service answers for every item what the old log says of it; `late` ran out of time since."""
    listed = (await client.get("/api/v1/work?limit=100")).json()["items"]
    found = {item["work_id"]: (item["status"], item["attempt"]) for item in listed}
    said = {name: (item.status.value, item.attempt) for name, item in meant.items.items()}
    for name in late:
        del found[name], said[name]
    assert found == said


async def is_done(client: httpx.AsyncClient, registry: Registry, lines: list[dict[str, Any]]) -> None:
    """What waited in the old log goes to a node of today, with the payload and the id it had."""
    bodies = [json.loads(line["body"]) for line in lines if line["subject"] == subjects.WORK_SUBMIT]
    submitted = {body["work_id"]: body for body in bodies}
    await registry.put("new-node", work_types=[WORK_TYPE])
    item = await ended(client, "waiting")
    assert (item["status"], item["assigned_node"], item["attempt"]) == ("completed", "new-node", 1)
    assert item["result"] == {"echo": submitted["waiting"]["payload"]}
    assert item["priority"] == submitted["waiting"]["priority"]
    fresh = await submit(client, work_type=WORK_TYPE, payload={"n": 2})
    assert (await ended(client, fresh))["result"] == {"echo": {"n": 2}}
    again = await client.post("/api/v1/work/submit", json={**submitted["waiting"], "priority": 1})
    assert again.status_code == 409, "an id of the old log is taken"


async def echo(item: dict[str, Any]) -> Any:
    return {"echo": item["payload"]}


def old_result(lines: list[dict[str, Any]]) -> Any:
    (line,) = [each for each in lines if each["subject"] == subjects.WORK_COMPLETED]
    return json.loads(line["body"])["result"]


async def test_a_marshaler_goes_on_with_the_log(old: Path, nats_server: NatsServer, bus: Bus) -> None:
    lines, js, registry = lines_of(old), bus.jetstream(), Registry(bus)
    await ensure_stream(js, work_stream())
    await put_back(js, lines)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (service, client):
        assert not service.state.ignored
        await compare(client, folded(lines))
        done = (await client.get("/api/v1/work/done")).json()
        assert done["result"] == old_result(lines)
        assert done["assigned_node"] == "old-host"
        await is_done(client, registry, lines)


async def test_a_marshaler_begins_with_the_snapshot(old: Path, nats_server: NatsServer, bus: Bus) -> None:
    lines, js, registry = lines_of(old), bus.jetstream(), Registry(bus)
    await ensure_stream(js, work_stream())
    for line in lines:
        await publish(js, line)
    position = await put_snapshot(js, (old / "work-snapshot.bin").read_bytes())
    assert position == lines[-1]["seq"], "what came after it would have to be folded"
    await js.delete_msg(WORK_STREAM, 1)  # the claim: without it nothing that was decided reads from the log
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (service, client):
        assert not service.state.ignored
        await compare(client, folded(lines))
        assert (await client.get("/api/v1/work/done")).json()["result"] == old_result(lines)
        await is_done(client, registry, lines)


async def test_a_marshaler_goes_on_with_a_log_of_before_compare_and_set(
    nats_server: NatsServer, bus: Bus
) -> None:
    lines = [json.loads(line) for line in BEFORE_COMPARE.read_text().splitlines()]
    js, registry = bus.jetstream(), Registry(bus)
    await ensure_stream(js, work_stream())
    for line in lines:
        await publish(js, line)
    await registry.start()
    await plain_worker(bus, echo)
    limits = {"WORK_MAX_PAYLOAD_BYTES": 4096, "WORK_RETRY_DELAY": 0.01}
    async with marshaling(nats_server.url, **limits) as (service, client):
        meant = folded(lines, Limits(max_body_bytes=4096))
        await compare(client, meant, late=["held"])
        assert service.state.ignored == meant.ignored
        assert service.state.epoch > meant.epoch
        await registry.put("today", labels={"site": "far"})  # as "waits" requires
        assert (await ended(client, "waits"))["assigned_node"] == "today"
        held = await ended(client, "held")
        assert (held["status"], held["assigned_node"], held["attempt"]) == ("completed", "today", 2)
