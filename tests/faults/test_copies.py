"""Buckets have as many copies as the work log in a cluster of three NATS servers, older ones too."""

import pytest

from compute_common.bus import Bus
from compute_common.jetstream import DRAINS_BUCKET, INSTANCES_BUCKET, NODES_BUCKET, WORK_STREAM, ensure_bucket
from node_registry.registrar import WRITER
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from tests.faults.servers import Server, leader_and_copies
from tests.support import waiting
from tests.support.apps import serving
from tests.support.nats import NatsServer
from work_marshaling.leader import TERMS
from work_marshaling.service import WorkMarshaling
from work_marshaling.settings import Settings


async def copies(bus: Bus, stream: str) -> int:
    return (await leader_and_copies(bus, stream))[1]


async def until_three(bus: Bus, stream: str) -> None:
    """A copy that was asked for is named once its server has it."""

    async def there() -> bool:
        return await copies(bus, stream) == 3

    await waiting.until(there, 20)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_every_bucket_has_three_copies(
    servers: list[Server], cluster: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_bucket(cluster.jetstream(), INSTANCES_BUCKET)  # by a release that knew of one copy only
    assert await copies(cluster, f"KV_{INSTANCES_BUCKET}") == 1
    monkeypatch.setenv("WORK_STREAM_REPLICAS", "3")
    names = {"NATS_URL": ",".join(server.url for server in servers), "NODE_ID": "three"}
    registry = NodeRegistry(RegistrySettings.model_validate(names))
    marshaler = WorkMarshaling(Settings.model_validate(names))
    wanted = (NODES_BUCKET, DRAINS_BUCKET, WRITER.bucket, TERMS.bucket)
    async with serving(registry), serving(marshaler):
        await waiting.until(lambda: marshaler.dispatcher.leading, 30)
        await ensure_bucket(cluster.jetstream(), INSTANCES_BUCKET)
        for stream in (WORK_STREAM, *(f"KV_{bucket}" for bucket in (*wanted, INSTANCES_BUCKET))):
            await until_three(cluster, stream)


async def test_a_server_alone_keeps_what_it_has(
    nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three copies asked of one server: the bucket that is there goes on with one."""
    await (await ensure_bucket(bus.jetstream(), "TEST_ALONE")).put("a", b"1")
    monkeypatch.setenv("WORK_STREAM_REPLICAS", "3")
    assert (await (await ensure_bucket(bus.jetstream(), "TEST_ALONE")).get("a")).value == b"1"
