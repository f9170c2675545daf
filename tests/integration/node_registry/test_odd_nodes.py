"""Nodes that lie, copy each other, or are far too large."""

import asyncio
from typing import Any

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.wire_json import dump
from tests.integration.node_registry.one_registry import DEAF, registry
from tests.support import waiting
from tests.support.apps import serving
from tests.support.hearing import messages_on
from tests.support.nats import NatsServer


def gpu(index: int) -> dict[str, Any]:
    return {"index": index, "uuid": f"GPU-{index:032}", "name": "NVIDIA H100 80GB HBM3", "vram_mb": 81559}


async def test_two_hosts_under_one_id_are_reported(nats_server: NatsServer, bus: Bus) -> None:
    events = await messages_on(bus, subjects.NODES_EVENT)
    async with serving(registry(nats_server.url)) as client:
        for boot in ("a", "b", "a", "b"):
            announced = {"node_id": "twin", "hostname": f"host-{boot}", "boot_id": boot}
            await bus.publish(subjects.NODES_ANNOUNCE, announced)
            await bus.publish(subjects.NODES_HEARTBEAT, {"node_id": "twin", "boot_id": boot})

        async def reported() -> bool:
            answer = await client.get("/api/v1/nodes/twin")
            return answer.status_code == 200 and "two hosts" in str(answer.json()["warnings"])

        await waiting.until(reported)
        await waiting.until(lambda: any("two hosts" in str(e["node"]["warnings"]) for e in events))
        overview = (await client.get("/api/v1/overview")).json()
        assert overview["warnings"][0].startswith("twin: two hosts")


async def test_a_clock_an_hour_off_is_told_and_not_trusted() -> None:
    async with serving(registry(DEAF)) as client:
        node = {"node_id": "late", "hostname": "h", "timestamp": "2001-01-01T00:00:00Z"}
        await client.post("/register", json=node)
        await client.post("/heartbeat", json={"node_id": "late", "timestamp": "2001-01-01T00:00:00+01:00"})
        found = (await client.get("/api/v1/nodes/late")).json()
        assert found["status"] == "online"
        assert found["last_heartbeat"] > "2026"
        assert "behind; set up NTP" in found["warnings"][0]
        await client.post("/heartbeat", json={"node_id": "late"})
        assert (await client.get("/api/v1/nodes/late")).json()["warnings"] == []


async def test_an_announced_address_is_never_fetched() -> None:
    visits = 0

    async def visited(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, serving(registry(DEAF)) as client:
        liar = {
            "node_id": "liar",
            "hostname": f"127.0.0.1:{port}",
            "ipv4": "127.0.0.1",
            "port": port,
            "endpoints": {"api": f"http://127.0.0.1:{port}/v1", "metrics": f"http://127.0.0.1:{port}"},
        }
        assert (await client.post("/register", json=liar)).status_code == 200
        for path in ("/api/v1/nodes", "/api/v1/nodes/liar", "/api/v1/overview", "/query", "/metrics"):
            assert (await client.get(path)).status_code == 200
        await asyncio.sleep(0.6)  # two ticks
    assert visits == 0


async def test_three_hundred_gpus_in_one_document(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        wide = {"node_id": "wide", "hostname": "h", "gpus": [gpu(index) for index in range(300)]}
        answer = (await client.post("/register", json=wide)).json()
        assert (answer["tier"], answer["warnings"]) == ("AI_FACTORY", [])
        found = await bus.request(subjects.NODES_QUERY, {"min_gpu_count": 300})
        assert found["nodes"][0]["gpu_vram_mb"] == 300 * 81559
        assert len(found["nodes"][0]["gpus"]) == 300


async def test_a_document_of_a_mebibyte_is_refused_and_counted(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        huge = {"node_id": "huge", "hostname": "h", "note": "x" * (1 << 20)}
        answer = await client.post("/register", json=huge)
        assert answer.status_code == 413
        large = huge | {"note": "x" * 900_000}
        answer = await client.post("/register", json=large)
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:compute:error:document-too-large")
        assert "262144" in answer.json()["detail"]
        await bus.client.publish(subjects.NODES_ANNOUNCE, dump(large))

        async def is_counted() -> bool:
            text = (await client.get("/metrics")).text
            rejected = [line for line in text.splitlines() if "announce.v1" in line and "rejected" in line]
            return any(line.endswith(" 1.0") for line in rejected)

        await waiting.until(is_counted)
        assert (await client.get("/api/v1/nodes/huge")).status_code == 404
