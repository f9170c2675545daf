"""The detector on this very host and on recorded ones, announcing over a real NATS server."""

import time
from pathlib import Path
from typing import Any

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.schemas.node import Heartbeat, NodeDocument
from resource_detector.service import ResourceDetector
from resource_detector.settings import Settings
from tests.support.apps import serving
from tests.support.hearing import messages_on
from tests.support.nats import NatsServer
from tests.support.waiting import until
from tests.unit.resource_detector.trees import amd_card, host_tree


def detector(url: str, **settings: Any) -> ResourceDetector:
    given = {"NATS_URL": url, "NATS_WAIT_SECONDS": 1, "NODE_ID": "box.1", **settings}
    return ResourceDetector(Settings.model_validate(given))


async def test_this_host() -> None:
    async with serving(detector("nats://127.0.0.1:1")) as client:
        health = (await client.get("/healthz")).json()
        assert health["status"] == "degraded", "NATS is away"
        body = (await client.get("/api/v1/detect")).json()
        assert body["cpu"]["threads"] >= 1
        assert body["memory"]["total_mb"] > 100
        assert body["tier"] in ("CPU_ONLY", "GPU_INFRA", "GPU_PEER", "AI_FACTORY")
        assert {"cpu.threads", "memory.total_mb"} <= set(body["sources"])
        assert NodeDocument.model_validate(body).node_id == "box.1"
        first = body["detected_at"]
        assert (await client.get("/api/v1/detect")).json()["detected_at"] == first, "cached"
        assert (await client.post("/api/v1/detect/refresh")).json()["detected_at"] > first
        profile = (await client.get("/profile")).json()
        assert profile["cpu"]["total_threads"] == profile["cpu_threads"]
        for name in ("capabilities", "limits"):
            today = await client.get(f"/api/v1/{name}")
            assert today.status_code == 200
            assert (await client.get(f"/{name}")).json() == today.json()
        assert "compute_detect_gpus" in (await client.get("/metrics")).text


async def test_cached_answers_are_quick_and_the_loop_is_not_blocked() -> None:
    async with serving(detector("nats://127.0.0.1:1")) as client:
        await client.get("/api/v1/detect")
        started = time.perf_counter()
        for _number in range(20):
            await client.get("/api/v1/detect")
        assert (time.perf_counter() - started) / 20 < 0.1


async def test_announces_and_beats(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> None:
    announced = await messages_on(bus, subjects.NODES_ANNOUNCE)
    beats = await messages_on(bus, subjects.NODES_HEARTBEAT)
    roots = host_tree(tmp_path)
    service = detector(
        nats_server.url,
        COMPUTE_PROC_ROOT=roots.proc,
        COMPUTE_SYS_ROOT=roots.sys,
        NODE_HEARTBEAT_SECONDS=0.2,
        DETECT_SECONDS=0.2,
        NODE_LABELS="room=a",
    )
    async with serving(service):
        await until(lambda: bool(announced) and len(beats) >= 3)
        document = NodeDocument.model_validate(announced[0])
        assert (document.node_id, document.managed, document.heartbeat_seconds) == ("box.1", True, 0.2)
        assert document.labels == {"room": "a"}
        assert document.gpus == []
        assert "work_types" not in announced[0]
        beat = Heartbeat.model_validate(beats[-1])
        assert beat.boot_id == document.boot_id
        assert (beat.available_memory_mb, beat.memory_utilization) == (12_000, 0.5)

        quiet = len(announced)
        at_rest = len(beats)
        await until(lambda: len(beats) >= at_rest + 5)
        assert len(announced) == quiet, "nothing changed, nothing is announced"

        amd_card(roots, 0, 196_592, 90402)
        await until(lambda: len(announced) > quiet, 5)
        assert announced[-1]["gpus"][0]["name"] == "AMD Instinct MI300X"
        assert announced[-1]["platform"] == "rocm"

        own = subjects.node_subject("box.1", "reannounce")
        questions = ((subjects.NODES_REANNOUNCE, "box.1"), (subjects.NODES_REANNOUNCE, "*"), (own, "box.1"))
        for subject, node_id in questions:
            announced.clear()
            await bus.publish(subject, {"node_id": node_id})
            await until(lambda: bool(announced), 3)


async def test_back_after_nats_was_away(nats_server: NatsServer, bus: Bus) -> None:
    announced = await messages_on(bus, subjects.NODES_ANNOUNCE)
    async with serving(detector(nats_server.url)):
        await until(lambda: bool(announced))
        nats_server.stop(kill=True)
        await until(lambda: not bus.connected)
        heard = len(announced)
        nats_server.start()
        await until(lambda: bus.connected)
        await bus.publish(subjects.NODES_REANNOUNCE, {"node_id": "*"})
        await until(lambda: len(announced) > heard)


async def test_hostile_requests_to_announce(nats_server: NatsServer, bus: Bus) -> None:
    announced = await messages_on(bus, subjects.NODES_ANNOUNCE)
    async with serving(detector(nats_server.url)):
        await until(lambda: bool(announced))
        for data in (
            b"",
            b"[]",
            b"\xff",
            b'{"node_id": ["*"]}',
            b'{"node_id": {"a": 1}}',
            b'{"node_id": "other"}',
        ):
            await bus.client.publish(subjects.NODES_REANNOUNCE, data)
        heard = len(announced)
        await bus.publish(subjects.NODES_REANNOUNCE, {"node_id": "box.1"})
        await until(lambda: len(announced) > heard)


async def test_nats_knows_the_connection_by_the_nodes_name() -> None:
    assert detector("nats://127.0.0.1:1").connection_name() == "box.1"
