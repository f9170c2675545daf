"""Nobody makes a service send a request to where it may not: instances, attachments, benchmarks, work."""

import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import jetstream, subjects, wire_json
from compute_common.bus import Bus
from compute_common.times import rfc3339, utc_now
from compute_node.program import NodeProgram
from compute_node.settings import NodeSettings
from tests.integration.benchmark_runner.runners import RUN, runner
from tests.integration.hostile.trap import Trap, instance
from tests.integration.vllm_orchestrator.hosts import orchestrator
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until
from vllm_orchestrator.downloads.hub import Hub

ASK = {"model": "tiny", "prompt": "hello"}
SMALL = {"context_lengths": [8], "output_tokens": 4, "background": False}


async def tell(bus: Bus, name: str, api: str, node_id: str) -> None:
    """An instance of another host, as that host's orchestrator says it: by event and in the bucket."""
    document = instance(name, api, node_id)
    event = {"event": "ready", "node_id": node_id, "instance": document, "timestamp": rfc3339(utc_now())}
    bucket = await jetstream.ensure_bucket(bus.jetstream(), jetstream.INSTANCES_BUCKET)
    await bucket.put(subjects.token(name), wire_json.dump(document))
    await bus.publish(subjects.VLLM_INSTANCE, event)


async def test_the_gateway_asks_no_address_that_a_host_made_up(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    folder = tmp_path / "tensorzero"
    async with Trap().set() as trap, AsyncExitStack() as stack:
        service = orchestrator(nats_server, tmp_path, TENSORZERO_CONFIG_DIR=folder)
        client = await stack.enter_async_context(serving(service))
        for number, api in enumerate(trap.spellings()):
            await tell(bus, f"evil-{number}", api, "evil")
        await tell(bus, "good", f"http://127.0.0.1:{trap.port}/v1", "good")

        async def names() -> set[str]:
            listed = (await client.get("/v1/models")).json()["data"]
            return {entry["id"] for entry in listed}

        async def known() -> bool:
            everything = (await client.get("/api/v1/vllm/instances")).json()["instances"]
            return len(everything) == len(trap.spellings()) + 1

        await until(known)
        assert await names() == {"good", "tiny"}
        for number in range(len(trap.spellings())):
            answer = await client.post("/v1/completions", json={**ASK, "model": f"evil-{number}"})
            assert answer.status_code == 404
        assert trap.visits == []
        assert (await client.post("/v1/completions", json=ASK)).status_code == 200
        assert trap.visits == ["POST /v1/completions HTTP/1.1"]
        await until(lambda: len(list(folder.glob("*.toml"))) > 1)
        written = "".join(path.read_text() for path in folder.glob("*.toml"))
        assert "good" in written
        assert "evil" not in written


async def test_an_engine_cannot_send_the_gateway_elsewhere(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    async with Trap().set() as trap, Trap(f"http://127.0.0.1:{trap.port}/latest").set() as engine:
        async with serving(orchestrator(nats_server, tmp_path)) as client:
            await tell(bus, "one", f"http://127.0.0.1:{engine.port}/v1", "other")
            await until(lambda: _listed(client))
            await client.post("/v1/completions", json=ASK)
            assert len(engine.visits) == 1
            attached = await client.post(
                "/api/v1/vllm/attach", json={"endpoint": f"http://127.0.0.1:{engine.port}"}
            )
            assert attached.status_code == 422
        assert trap.visits == []


async def _listed(client: httpx.AsyncClient) -> bool:
    return bool((await client.get("/v1/models")).json()["data"])


async def test_only_loopback_and_listed_servers_are_attached(nats_server: NatsServer, tmp_path: Path) -> None:
    async with Trap().set() as trap, serving(orchestrator(nats_server, tmp_path)) as client:
        for endpoint in [*trap.spellings(), "http://10.0.0.1:8000", "http://localhost.evil.example"]:
            answer = await client.post("/api/v1/vllm/attach", json={"endpoint": endpoint})
            assert answer.status_code == 422, endpoint
        assert trap.visits == []


async def test_benchmarks_measure_no_address_that_a_host_or_a_request_made_up(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    async with Trap().set() as trap, serving(runner(tmp_path, nats_server.url)) as client:
        for number, api in enumerate(trap.spellings()):
            await tell(bus, f"evil-{number}", api, "evil")
        for number, api in enumerate(trap.spellings()):
            named = await client.post(
                RUN, json={"model_name": "x", "instance_name": f"evil-{number}", **SMALL}
            )
            assert named.status_code == 404, api
            given = await client.post(RUN, json={"model_name": "x", "endpoint": api, **SMALL})
            assert given.status_code in (403, 422), api
        assert trap.visits == []


async def test_benchmarks_follow_no_redirect(tmp_path: Path) -> None:
    async with Trap().set() as trap, Trap(f"http://127.0.0.1:{trap.port}/").set() as engine:
        async with serving(runner(tmp_path)) as client:
            ask = {"model_name": "x", "endpoint": f"http://127.0.0.1:{engine.port}", **SMALL}
            answer = await client.post(RUN, json=ask)
            assert answer.json()["status"] == "failed"
        assert engine.visits
        assert trap.visits == []


async def test_work_goes_to_no_address_that_an_event_made_up(nats_server: NatsServer, bus: Bus) -> None:
    settings = NodeSettings.model_validate({"NATS_URL": nats_server.url, "NODE_ID": "box"})
    async with Trap().set() as trap:
        program = NodeProgram(settings)
        for number, api in enumerate(trap.spellings()):
            document = instance(f"evil-{number}", api, "box")
            await program.instances._event(
                {
                    "event": "ready",
                    "node_id": "box",
                    "instance": document,
                    "timestamp": rfc3339(utc_now()),
                }
            )
        assert program.instances.names() == []
        assert trap.visits == []


@pytest.fixture
def turning(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the name `turncoat` stands for, question after question; the last one stays."""
    answers: list[str] = []
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != "turncoat":
            return real(host, port, *more, **options)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return answers


async def test_the_gateway_follows_no_name_that_turns(
    nats_server: NatsServer, tmp_path: Path, bus: Bus, turning: list[str]
) -> None:
    turning += ["127.0.0.1", "203.0.113.9"]
    async with Trap().set() as engine, serving(orchestrator(nats_server, tmp_path)) as client:
        await tell(bus, "one", f"http://turncoat:{engine.port}/v1", "other")
        await until(lambda: _listed(client))
        assert (await client.post("/v1/completions", json=ASK)).status_code == 200
        assert (await client.post("/v1/completions", json=ASK)).status_code == 503
        assert len(engine.visits) == 1


async def test_a_run_stays_with_the_address_that_was_judged(tmp_path: Path, turning: list[str]) -> None:
    """The load generator, a process of its own, resolves nothing by itself."""
    turning += ["169.254.169.254"]
    service = runner(tmp_path, BENCHMARK_ENDPOINT_ALLOW="turncoat")
    async with Trap().set() as engine, serving(service) as client:
        ask = {"model_name": "x", "endpoint": f"http://turncoat:{engine.port}", **SMALL}
        refused = (await client.post(RUN, json=ask)).json()
        assert "no address that may be asked" in refused["error"]
        assert engine.visits == []
        turning[:] = ["127.0.0.1", "169.254.169.254"]
        assert (await client.post(RUN, json=ask)).json()["status"] == "failed"  # it is no engine
        assert engine.visits


@pytest.mark.parametrize(
    ("endpoint", "hop", "passes"),
    [
        ("https://huggingface.co", "https://cdn-lfs.huggingface.co/x", True),
        ("https://huggingface.co", "http://cdn-lfs.huggingface.co/x", False),
        ("https://huggingface.co", "http://169.254.169.254/latest", False),
        ("https://huggingface.co", "https://127.0.0.1/x", False),
        ("https://huggingface.co", "https://10.0.0.1/x", False),
        ("https://huggingface.co", "https://metadata.google.internal/x", False),
        ("http://mirror:8080", "http://10.0.0.1/x", True),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9001/x", True),
        ("http://127.0.0.1:9000", "http://169.254.169.254/latest", False),
        ("http://127.0.0.1:9000", "http://[::ffff:a9fe:a9fe]/latest", False),
    ],
)
async def test_where_the_hub_may_redirect_to(endpoint: str, hop: str, passes: bool) -> None:
    hub = Hub(endpoint, None)
    checks = hub._http().event_hooks["request"]
    request = httpx.Request("GET", hop)
    try:
        for check in checks:
            if passes:
                await check(request)
            else:
                with pytest.raises(httpx.UnsupportedProtocol):
                    await check(request)
    finally:
        await hub.close()
