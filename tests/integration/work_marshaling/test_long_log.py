"""The log does not grow for ever: snapshots, purging, old live items said again, large results elsewhere."""

import asyncio
import contextlib
from typing import Any

from nats.js.api import ObjectMeta
from nats.js.errors import NotFoundError, ObjectNotFoundError

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.jetstream import RESULTS_BUCKET, SNAPSHOTS_BUCKET, WORK_STREAM
from tests.integration.work_marshaling.cluster import (
    Registry,
    ended,
    marshaling,
    plain_worker,
    standing_by,
    submit,
    until,
)
from tests.integration.work_marshaling.history import judged, records_of
from tests.support import waiting
from tests.support.nats import NatsServer

QUICK = {"WORK_PURGE_SECONDS": 0.1, "WORK_SNAPSHOT_RECORDS": 1}
BRIEF = {**QUICK, "WORK_RETENTION_HOURS": 0.2 / 3600, "WORK_MOVE_RECORDS": 10}


async def echo(item: dict[str, Any]) -> Any:
    return {"echo": item["payload"]}


async def first_seq(bus: Bus) -> int:
    return (await bus.jetstream().stream_info(WORK_STREAM)).state.first_seq


async def test_a_restart_goes_on_from_the_snapshot(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url, **QUICK) as (service, client):
        await registry.put("plain", work_types=["test"])
        done = await submit(client, payload={"n": 1}, idempotency_key="k")
        await ended(client, done)
        waits = await submit(client, work_type="other", metadata={"who": "me"}, priority=1)
        await until(lambda: service.snapshots.newest >= service.state.position)
        stats = (await client.get("/api/v1/stats")).json()
    async with marshaling(nats_server.url, **QUICK) as (service, client):
        assert service.state.totals.submitted == 2
        assert (await client.get("/api/v1/stats")).json() == stats
        assert (await ended(client, done))["result"] == {"echo": {"n": 1}}
        item = (await client.get(f"/api/v1/work/{waits}")).json()
        assert (item["status"], item["metadata"], item["priority"]) == ("pending", {"who": "me"}, 1)
        assert [step["event"] for step in item["history"]] == ["submitted"]
        assert await submit(client, payload={"n": 1}, idempotency_key="k") == done
        await registry.put("plain", work_types=["test", "other"])
        assert (await ended(client, waits))["status"] == "completed"


async def test_snapshots_that_do_not_read_cost_only_time(nats_server: NatsServer, bus: Bus) -> None:
    async with marshaling(nats_server.url, **QUICK) as (service, client):
        work_id = await submit(client)
        await until(lambda: service.snapshots.newest >= service.state.position)
        newest = service.snapshots.newest
    store = await bus.jetstream().object_store(SNAPSHOTS_BUCKET)
    for name in ("fold-0", "fold-1"):
        with contextlib.suppress(ObjectNotFoundError, NotFoundError):
            label = (await store.get_info(name)).description
            await store.put(name, b"not a snapshot", ObjectMeta(name=name, description=label))
    async with marshaling(nats_server.url, **QUICK) as (service, client):
        assert service.state.position >= newest
        assert (await client.get(f"/api/v1/work/{work_id}")).json()["status"] == "pending"


async def test_an_old_live_item_does_not_keep_the_log(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url, **BRIEF) as (service, client):
        await registry.put("plain", slots=8, work_types=["test"])
        old = await submit(client, work_type="other", work_id="old", payload={"n": "old"})
        seq = service.state.items[old].seq
        for _ in range(3):
            await asyncio.gather(*(submit(client, payload={"n": n}) for n in range(20)))
            await until(lambda: len(service.state.items) == 1)

        async def purged() -> bool:
            return await first_seq(bus) > seq

        await waiting.until(purged)
        assert old in service.state.moved
        item = (await client.get("/api/v1/work/old")).json()
        assert (item["status"], item["attempt"]) == ("pending", 0)
        total = (await client.get("/api/v1/stats")).json()["total_requests"]
    async with marshaling(nats_server.url, **BRIEF) as (service, client):
        assert (await client.get("/api/v1/stats")).json()["total_requests"] == total == 61
        again = await submit(client, work_type="other", work_id="old", payload={"n": "old"})
        assert again == "old"
        assert (await client.get("/api/v1/stats")).json()["total_requests"] == total
        await registry.put("plain", work_types=["other"])
        assert (await ended(client, "old"))["result"] == {"echo": {"n": "old"}}


async def test_a_replica_that_missed_what_was_purged_begins_with_the_snapshot(
    nats_server: NatsServer, bus: Bus
) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with (
        marshaling(nats_server.url, **BRIEF) as (service, client),
        standing_by(nats_server.url, COMPUTE_REPLICA="b", **BRIEF) as (other, there),
    ):
        await registry.put("plain", slots=8, work_types=["test"])
        waits = await submit(client, work_type="other")
        await until(lambda: waits in other.state.items)
        connection = other.log._sub
        await connection.unsubscribe()  # deaf: nothing arrives, and nobody tells it
        await client.delete(f"/api/v1/work/{waits}")
        for _ in range(3):
            await asyncio.gather(*(submit(client, payload={"n": n}) for n in range(20)))
            await until(lambda: not service.state.items)

        async def gone() -> bool:
            return (await there.get(f"/api/v1/work/{waits}")).status_code == 404

        await waiting.until(gone, 15)
        await until(lambda: other.state.totals == service.state.totals)


async def test_a_large_result_moves_to_the_object_store(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    large = {"text": "x" * 300_000}

    async def work(item: dict[str, Any]) -> Any:
        return large if item["payload"].get("large") else {"text": "small"}

    await plain_worker(bus, work)
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("plain", slots=2)
        small, big = await submit(client), await submit(client, payload={"large": True})
        item = service.state.items[big]
        await until(lambda: item.result_object is not None)
        assert (await ended(client, big))["result"] == large
        assert (await ended(client, small))["result"] == {"text": "small"}
        assert service.state.items[small].result_object is None

        async def left_the_log() -> bool:
            records = await records_of(bus)
            return not any(len(each.body) > 256_000 for each in records)

        await waiting.until(left_the_log)
        status = await (await bus.jetstream().object_store(RESULTS_BUCKET)).status()
        assert status.ttl == 24 * 3600
    judged(await records_of(bus))  # the log without that completion tells the same end
    async with marshaling(nats_server.url) as (service, client):
        assert (await ended(client, big))["result"] == large
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": big, "result": "late"})
        await until(lambda: service.state.ignored["already-final"] == 1)
        assert (await ended(client, big))["result"] == large
