"""The overview over HTTP, with real neighbours' subjects, silent ones, a stream, and keys."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from compute_common import subjects
from compute_common.access.api_keys import ApiKey, Scope, digest, new_token
from compute_common.access.key_file import change_keys
from compute_common.bus import Bus, Message
from compute_common.times import utc_now
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from node_registry.status import feed
from tests.support.apps import serving
from tests.support.live import listening
from tests.support.nats import NatsServer
from tests.support.waiting import until

NODE = {
    "node_id": "box",
    "hostname": "box.lan",
    "managed": True,
    "heartbeat_seconds": 60,
    "gpus": [{"index": 0, "name": "NVIDIA GeForce RTX 3090", "vram_mb": 24576}],
}
GPU = {"index": 0, "name": "NVIDIA GeForce RTX 3090", "total_mb": 24576, "used_mb": 9000, "reserved_mb": 8192}
STATISTICS = {"total_requests": 9, "pending": 4, "assigned": 2, "completed": 3, "failed": 0}


def registry(url: str, **more: object) -> NodeRegistry:
    return NodeRegistry(Settings.model_validate({"NATS_URL": url, "NATS_WAIT_SECONDS": 0.2, **more}))


async def overview(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/v1/overview")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def voices(document: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["voice"] for each in document["neighbours"]}


async def answer_as_neighbours(bus: Bus) -> None:
    async def states(_body: Message) -> object:
        return {"node_id": "box", "gpus": [GPU]}

    async def instances(_body: Message) -> object:
        failed = {"instance_name": "m", "model_name": "org/M", "status": "failed", "last_error": "no memory"}
        return {"node_id": "box", "instances": [failed]}

    async def statistics(_body: Message) -> object:
        return STATISTICS

    await bus.serve(subjects.gpu_subject("states", "box"), states)
    await bus.serve(subjects.vllm_subject("status", "box"), instances)
    await bus.serve(subjects.WORK_STATUS, statistics)
    await bus.flush()


async def test_everything_is_gathered_in_the_first_answer(nats_server: NatsServer, bus: Bus) -> None:
    await answer_as_neighbours(bus)
    async with serving(registry(nats_server.url)) as client:
        assert (await client.post("/register", json=NODE)).status_code == 200
        found = await overview(client)
        assert found["hosts"][0]["gpus"][0]["used_mb"] == 9000
        assert [(each["status"], each["detail"]) for each in found["instances"]] == [("failed", "no memory")]
        assert found["queue"]["pending"] == 4
        assert set(voices(found).values()) == {"answers"}
        level = {"node_id": "box", "gpu_index": 0, "level": "critical", "previous_level": "warn"}
        warning = {
            **level,
            "available_mb": 100,
            "predicted_oom_seconds": 60,
            "timestamp": "2026-11-23T00:00:00Z",
        }
        await bus.publish(subjects.GPU_MEMORY_WARNING, {"node_id": "../../x", "level": 7})
        await bus.publish(subjects.GPU_MEMORY_WARNING, warning)

        async def is_warned() -> bool:
            return [each["node_id"] for each in (await overview(client))["memory_warnings"]] == ["box"]

        await until(is_warned)


async def test_neighbours_that_are_silent_absent_or_talk_nonsense_are_shown_as_such(
    nats_server: NatsServer, bus: Bus
) -> None:
    async def silent(_body: Message) -> None:
        return None

    async def nonsense(_body: Message) -> object:
        return {"gpus": [{"index": -7, "total_mb": "much"}], "instances": "none"}

    await bus.serve(subjects.WORK_STATUS, silent)
    await bus.serve(subjects.gpu_subject("states", "box"), nonsense)
    await bus.flush()
    async with serving(registry(nats_server.url)) as client:
        await client.post("/register", json=NODE)

        async def is_told() -> bool:
            return voices(await overview(client))["work-marshaling"] == "silent"

        await until(is_told)
        found = await overview(client)
        assert (found["queue"], found["work_rate"]) == (None, None)
        assert found["hosts"][0]["ledger"] == "silent"
        assert found["hosts"][0]["gpus"][0]["total_mb"] == 24576, "as announced"
        assert found["neighbours"][3]["silent"] == ["box"]
        nats_server.stop()

        async def is_deaf() -> bool:
            return voices(await overview(client))["nats"] == "silent"

        await until(is_deaf)
        found = await overview(client)
        assert found["hosts"][0]["status"] == "online"
        assert (found["hosts"][0]["ledger"], voices(found)["work-marshaling"]) == ("unasked", "silent")


async def events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    kind = ""
    async for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


async def test_the_stream_tells_all_then_changes_once_a_second(nats_server: NatsServer) -> None:
    async with listening(registry(nats_server.url)) as address, httpx.AsyncClient(base_url=address) as client:
        for number in range(3):
            await client.post("/register", json={**NODE, "node_id": f"n{number}", "managed": False})
        async with client.stream("GET", "/api/v1/overview/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            heard = events(stream.aiter_lines())
            kind, first = await anext(heard)
            assert (kind, len(first["hosts"])) == ("overview", 3)
            loop = asyncio.get_running_loop()
            began = loop.time()
            for number in range(20):  # coalesced
                beat = {"node_id": "n1", "cpu_utilization": 0.01 * (number + 1)}
                await client.post("/heartbeat", json=beat)
            told: list[dict[str, Any]] = []
            while not told or told[-1]["hosts"][0]["cpu_utilization"] != 0.2:
                kind, changes = await anext(heard)
                assert kind == "changes"
                told += [changes] if changes["hosts"] else []
            assert [each["node_id"] for each in told[-1]["hosts"]] == ["n1"]
            assert len(told) <= 1 + (loop.time() - began) / feed.SECONDS
            await client.delete("/api/v1/nodes/n2")
            gone: list[str] = []
            while not gone:
                gone = (await anext(heard))[1]["gone"]
            assert gone == ["n2"]


async def test_listeners_are_bounded_and_their_places_are_given_back(nats_server: NatsServer) -> None:
    async with listening(registry(nats_server.url)) as address:
        limits = httpx.Limits(max_connections=feed.MOST_LISTENERS + 10)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=10) as client:

            @asynccontextmanager
            async def stream() -> AsyncIterator[httpx.Response]:
                async with client.stream("GET", "/api/v1/overview/events") as opened:
                    lines = opened.aiter_lines()  # kept: a stream ends with its iterator
                    await anext(lines)
                    yield opened

            async with AsyncExitStack() as held:
                for _ in range(feed.MOST_LISTENERS):
                    assert (await held.enter_async_context(stream())).status_code == 200
                async with stream() as refused:
                    assert refused.status_code == 503
                assert (await client.get("/api/v1/overview")).status_code == 200

            async def is_free() -> bool:
                async with stream() as opened:
                    return opened.status_code == 200

            await until(is_free)


async def test_a_key_becomes_a_cookie_that_reads_and_no_more(nats_server: NatsServer, tmp_path: Path) -> None:
    key_id, token = new_token()
    key = ApiKey(key_id=key_id, scope=Scope.ADMIN, sha256=digest(token), created_at=utc_now())
    path = tmp_path / "keys.json"
    change_keys(path, lambda keys: [*keys, key])
    async with serving(registry(nats_server.url, COMPUTE_API_KEYS_FILE=path)) as client:
        page = await client.get("/")
        assert page.status_code == 200, "the shell holds no data"
        assert (await client.get("/api/v1/overview")).status_code == 401
        assert (await client.post("/api/v1/session", json={"key": "ck_wrong"})).status_code == 401
        assert (await client.post("/api/v1/session", json={"key": "x" * 600})).status_code == 422
        foreign = {"Origin": "http://evil.example"}
        assert (await client.post("/api/v1/session", json={"key": token}, headers=foreign)).status_code == 403
        assert not client.cookies
        answer = await client.post(
            "/api/v1/session", json={"key": token}, headers={"Origin": "http://service"}
        )
        assert (answer.status_code, answer.json()["key_required"]) == (200, True)
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert token not in cookie
        assert (await client.get("/api/v1/overview")).status_code == 200
        assert (await client.get("/api/v1/nodes")).status_code == 200
        assert (await client.post("/register", json=NODE)).status_code == 401, "a cookie changes nothing"
        assert (await client.delete("/api/v1/nodes/box")).status_code == 401
        assert (await client.post("/query", json={})).status_code == 401
        other_port = {"Sec-Fetch-Site": "same-site"}
        assert (await client.get("/api/v1/overview", headers=other_port)).status_code == 401
        wrong = {"Authorization": "Bearer ck_wrong"}
        assert (await client.get("/api/v1/overview", headers=wrong)).status_code == 401
        assert (await client.delete("/api/v1/session")).status_code == 204
        assert (await client.get("/api/v1/overview")).status_code == 401


async def test_without_keys_there_is_no_session(nats_server: NatsServer) -> None:
    async with serving(registry(nats_server.url)) as client:
        answer = await client.post("/api/v1/session", json={"key": "any"})
        assert (answer.status_code, answer.json()["key_required"]) == (200, False)
        assert "set-cookie" not in answer.headers
