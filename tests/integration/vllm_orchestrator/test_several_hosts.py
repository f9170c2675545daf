"""One instance over two hosts. No GPU is here: `vllm` is a stand-in that is strict about its arguments.

Its ranks meet at --master-addr:--master-port as vLLM's do; the head serves once all are there. Real vLLM is
asked the same by `make test-vllm`.
"""

import asyncio
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.schemas.vllm import DeployRequest
from compute_common.tasks import end_tasks, every
from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.integration.vllm_orchestrator.hosts import INSTANCES, gone, orchestrator, until, until_status
from tests.integration.vllm_orchestrator.test_hub_profiles import CONFIG
from tests.integration.vllm_orchestrator.test_lost_hosts import registry
from tests.support.apps import serving
from tests.support.nats import NatsServer
from vllm_orchestrator.instances import ledger as ledgers_of_hosts
from vllm_orchestrator.instances import parts, promise
from vllm_orchestrator.instances.ledger import LedgerClient
from vllm_orchestrator.service import VllmOrchestrator

HEAD, TAIL = "host-a", "host-b"
STAND_IN = f"""#!{sys.executable}
import argparse, json, os, socket, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
parser = argparse.ArgumentParser()
parser.add_argument("serve", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--served-model-name", nargs="+", required=True)
parser.add_argument("--host", required=True)
for flag in ("port", "tensor-parallel-size", "pipeline-parallel-size", "max-model-len", "max-num-seqs",
             "max-num-batched-tokens", "shutdown-timeout", "nnodes", "node-rank", "master-port"):
    parser.add_argument("--" + flag, type=int, required=True)
parser.add_argument("--gpu-memory-utilization", type=float)
parser.add_argument("--dtype")
parser.add_argument("--master-addr", required=True)
parser.add_argument("--headless", action="store_true")
args = parser.parse_args()
cards = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
assert len(cards) * args.nnodes == args.tensor_parallel_size * args.pipeline_parallel_size, cards
assert os.environ["VLLM_HOST_IP"] == "127.0.0.1"
assert args.headless == (args.node_rank > 0)
if args.headless:
    for _try in range(200):
        try:
            held = socket.create_connection((args.master_addr, args.master_port))
            break
        except OSError:
            time.sleep(0.05)
    time.sleep(3600)  # as vLLM's, it stays when its head has gone
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self): self.answer({{}})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer({{"choices": [{{"text": "x", "finish_reason": "length"}}]}})
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
meeting = socket.create_server(("127.0.0.1", args.master_port))
ranks = [meeting.accept() for _rank in range(args.nnodes - 1)]
ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()
"""
MODEL = {"model_name": "Qwen/Qwen2.5-32B-Instruct", "instance_name": "qwen", "max_model_len": 4096}


@dataclass
class Pair:
    """Two hosts of two 24 GB cards each, as the registry and their ledgers tell."""

    gpus: dict[str, httpx.AsyncClient]
    head: httpx.AsyncClient
    services: dict[str, VllmOrchestrator]
    homes: dict[str, Path]

    def pid(self, node_id: str) -> int:
        return int(json.loads((self.homes[node_id] / "engines" / "qwen.json").read_text())["pid"])

    async def reserved(self) -> list[int]:
        answers = [await gpu.get("/api/v1/gpu/reservations") for gpu in self.gpus.values()]
        return [answer.json()["count"] for answer in answers]


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "bin" / "vllm"
    binary.parent.mkdir()
    binary.write_text(STAND_IN)
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent))


@pytest.fixture
async def pair(nats_server: NatsServer, tmp_path: Path, vllm: None, bus: Bus) -> AsyncIterator[Pair]:
    homes = {node_id: tmp_path / node_id for node_id in (HEAD, TAIL)}
    services = {
        node_id: orchestrator(nats_server, home, node_id, INSTANCE_REPEAT_SECONDS=1)
        for node_id, home in homes.items()
    }
    ledgers = {
        node_id: gpu_orchestrator(home, nats_server.url, two_gpus(), node_id)
        for node_id, home in homes.items()
    }
    async with (
        registry(nats_server),
        present(bus, HEAD),
        present(bus, TAIL),
        serving(ledgers[HEAD]) as gpu_a,
        serving(ledgers[TAIL]) as gpu_b,
        serving(services[HEAD]) as head,
        serving(services[TAIL]),
    ):
        yield Pair({HEAD: gpu_a, TAIL: gpu_b}, head, services, homes)


@asynccontextmanager
async def present(bus: Bus, node_id: str) -> AsyncIterator[None]:
    gpus = [{"index": index, "name": "RTX 3090", "vram_mb": 24_576} for index in range(2)]
    document = {
        "node_id": node_id, "hostname": node_id, "ipv4": "127.0.0.1", "managed": True, "gpus": gpus,
        "memory": {"total_gb": 64}, "heartbeat_seconds": 0.5,
    }  # fmt: skip

    async def beat() -> None:
        await bus.publish(subjects.NODES_HEARTBEAT, {"node_id": node_id})

    await bus.publish(subjects.NODES_ANNOUNCE, document)
    task = asyncio.create_task(every(0.5, beat))
    try:
        yield
    finally:
        await end_tasks([task])


@asynccontextmanager
async def one_host(
    server: NatsServer, home: Path, bus: Bus, node_id: str
) -> AsyncIterator[tuple[VllmOrchestrator, httpx.AsyncClient, httpx.AsyncClient]]:
    """(orchestrator, its client, its ledger's client) of a host with two cards."""
    service = orchestrator(
        server, home, node_id, INSTANCE_REPEAT_SECONDS=1, INSTANCE_TAKEOVER_SECONDS=2, ENGINE_STOP_SECONDS=1
    )
    ledger = gpu_orchestrator(home, server.url, two_gpus(), node_id)
    async with present(bus, node_id), serving(ledger) as gpu, serving(service) as client:
        yield service, client, gpu


async def test_a_host_gone_for_good_is_replaced(
    nats_server: NatsServer, tmp_path: Path, bus: Bus, vllm: None
) -> None:
    """Whichever of the two: first the one with a part, then the head itself."""
    spare = "host-c"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(registry(nats_server))
        hosts: dict[str, AsyncExitStack] = {}
        clients: dict[str, httpx.AsyncClient] = {}
        gpus: dict[str, httpx.AsyncClient] = {}
        for node_id in (HEAD, TAIL, spare):
            hosts[node_id] = await stack.enter_async_context(AsyncExitStack())
            entered = one_host(nats_server, tmp_path / node_id, bus, node_id)
            _service, clients[node_id], gpus[node_id] = await hosts[node_id].enter_async_context(entered)
        await clients[HEAD].post("/api/v1/vllm/deploy", json=MODEL)
        first = await until_status(clients[HEAD], "qwen", "ready")
        part = next(place["node_id"] for place in first["placement"] if place["node_id"] != first["node_id"])
        await hosts[part].aclose()
        second = await moved(clients[first["node_id"]], first["epoch"], part)

        back = one_host(nats_server, tmp_path / part, bus, part)
        _service, clients[part], gpus[part] = await hosts[part].enter_async_context(back)
        await hosts[second["node_id"]].aclose()
        third = await moved(clients[part], second["epoch"], second["node_id"])
        await clients[part].delete(f"{INSTANCES}/qwen")
        for place in third["placement"]:
            answer = await gpus[place["node_id"]].get("/api/v1/gpu/reservations")
            assert answer.json()["count"] == 0


async def moved(client: httpx.AsyncClient, epoch: int, lost: str) -> Any:
    """The instance once it lives anew, without the lost host."""

    async def look() -> Any:
        return (await client.get(f"{INSTANCES}/qwen")).json()

    seen = await until(look, lambda seen: seen["epoch"] > epoch and seen["status"] == "ready", 40)
    assert lost not in {place["node_id"] for place in seen["placement"]}
    return seen


async def test_started_on_both_restarted_as_one_ended_on_both(pair: Pair) -> None:
    answer = await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    assert answer.status_code == 202, answer.text
    assert {place["node_id"] for place in answer.json()["placement"]} == {HEAD, TAIL}
    ready = await until_status(pair.head, "qwen", "ready", "failed")
    assert ready["status"] == "ready", ready["last_error"]
    assert await pair.reserved() == [1, 1]
    head, tail = ready["node_id"], next(each for each in (HEAD, TAIL) if each != ready["node_id"])
    first = {node_id: pair.pid(node_id) for node_id in (head, tail)}
    assert "--headless" in psutil.Process(first[tail]).cmdline()
    for gpu in pair.gpus.values():
        [held] = (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"]
        assert held["state"] == "bound"

    os.kill(first[tail], signal.SIGKILL)  # a part is lost: the whole starts again
    again = await until_restarted(pair.head)
    assert "part on node" in again["last_error"]
    await gone(first[head])
    second = {node_id: pair.pid(node_id) for node_id in (head, tail)}
    assert not set(second.values()) & set(first.values())

    assert (await pair.head.delete(f"{INSTANCES}/qwen")).status_code == 200
    for pid in second.values():
        await gone(pid)
    assert await pair.reserved() == [0, 0]


async def until_restarted(client: httpx.AsyncClient) -> Any:
    async def look() -> Any:
        return (await client.get(f"{INSTANCES}/qwen")).json()

    return await until(look, lambda seen: seen["restarts"] == 1 and seen["status"] == "ready", 30)


async def test_all_hosts_promise_or_none(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second host's memory goes between plan and reservation."""
    planned = (await pair.head.post("/api/v1/vllm/deploy", json={**MODEL, "dry_run": True})).json()
    later = planned["placement"][1]["node_id"]
    body = {"gpu_indices": [0], "required_mb": 20_000}
    find = pair.services[HEAD].planner.find

    async def find_and_lose(*args: Any) -> Any:
        found = await find(*args)
        await pair.gpus[later].post("/api/v1/gpu/reserve", json=body)
        return found

    for service in pair.services.values():
        monkeypatch.setattr(service.planner, "find", find_and_lose)
    refused = await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    assert refused.status_code == 409
    assert sorted(await pair.reserved()) == [0, 1]  # only the stranger's
    assert (await pair.head.get(INSTANCES)).json()["count"] == 0


async def test_asked_at_a_host_that_is_no_part_of_it(
    pair: Pair, nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    """Its plan spans the two with cards; the one at its head starts it on both."""
    asked = orchestrator(nats_server, tmp_path / "asked", "host-without-cards")
    async with serving(asked) as client:
        answer = await client.post("/api/v1/vllm/deploy", json=MODEL)
        assert answer.status_code == 202, answer.text
        assert {place["node_id"] for place in answer.json()["placement"]} == {HEAD, TAIL}
        await until_status(client, "qwen", "ready")
        assert sorted(await pair.reserved()) == [1, 1]
        assert (await client.delete(f"{INSTANCES}/qwen")).status_code == 200
        assert await pair.reserved() == [0, 0]


async def test_whoever_is_asked_is_the_head_where_hosts_are_alike(pair: Pair) -> None:
    tail = pair.services[TAIL].desk
    code, answer = await tail.deploy(DeployRequest.model_validate(MODEL))
    assert (code, answer.placement[0].node_id) == (202, TAIL)
    await until_status(pair.head, "qwen", "ready")
    await tail.stop("qwen", remove=True)


async def test_ray_is_rendered_and_not_started(pair: Pair) -> None:
    body = {**MODEL, "distributed_executor_backend": "ray"}
    refused = await pair.head.post("/api/v1/vllm/deploy", json=body)
    assert refused.status_code == 409
    assert "leave distributed_executor_backend" in refused.json()["detail"]
    assert await pair.reserved() == [0, 0]
    assert (await pair.head.get(INSTANCES)).json()["count"] == 0
    planned = (await pair.head.post("/api/v1/vllm/plan", json=body)).json()["plan"]
    assert list(planned["docker_compose"]["services"]) == ["qwen", "qwen-rank-1"]
    assert planned["command"][-2:] == ["--distributed-executor-backend", "ray"]


async def test_a_part_whose_instance_went_is_ended(pair: Pair) -> None:
    """Its head's host lost the record; the part's host finds out by itself."""
    await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    ready = await until_status(pair.head, "qwen", "ready")
    head, tail = ready["node_id"], next(each for each in (HEAD, TAIL) if each != ready["node_id"])
    pid = pair.pid(tail)
    record = pair.services[head].table.get("qwen")
    assert record is not None
    ranks, record.ranks = record.ranks, []  # the head forgets to tell
    await pair.head.delete(f"{INSTANCES}/qwen")
    assert ranks
    await gone(pid)
    await until(pair.reserved, lambda counts: counts == [0, 0], 15)


OURS = {
    "model_name": "acme/tiny",
    "instance_name": "qwen",
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
}
HEADER = json.dumps({"w": {"dtype": "BF16", "shape": [2, 64], "data_offsets": [0, 256]}}).encode()
TINY = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(256),
}


def give_model(home: Path) -> None:
    folder = home / "models" / "acme" / "tiny"
    folder.mkdir(parents=True)
    for name, content in TINY.items():
        (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("holder", [HEAD, TAIL])
async def test_every_host_gets_the_files_first(pair: Pair, holder: str) -> None:
    """Whichever of the two has them, and whichever is asked."""
    give_model(pair.homes[holder])
    answer = await pair.head.post("/api/v1/vllm/deploy", json=OURS)
    assert answer.status_code == 202, answer.text
    ready = await until_status(pair.head, "qwen", "ready", "failed")
    assert ready["status"] == "ready", ready["last_error"]
    for node_id, home in pair.homes.items():
        argv = psutil.Process(pair.pid(node_id)).cmdline()
        folder = Path(argv[argv.index("serve") + 1])
        assert folder == home / "models" / "acme" / "tiny"
        assert contents(folder) == TINY
    await pair.head.delete(f"{INSTANCES}/qwen")


async def test_a_host_that_cannot_get_them_is_named(pair: Pair) -> None:
    give_model(pair.homes[HEAD])
    (pair.homes[TAIL] / "models").write_text("no folder")
    assert (await pair.head.post("/api/v1/vllm/deploy", json=OURS)).status_code == 202
    failed = await until_status(pair.head, "qwen", "failed", "ready")
    assert failed["status"] == "failed"
    assert f"the model cannot come to node '{TAIL}': models cannot be written to" in failed["last_error"]
    assert await pair.reserved() == [0, 0]


async def test_memory_that_cannot_be_bound_is_renewed_on_every_host(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledgers see other pids than the orchestrators do."""
    bind = LedgerClient.bind

    async def other_pids(self: LedgerClient, node_id: str, reservation_id: str, holder: Any) -> None:
        await bind(self, node_id, reservation_id, {**holder, "pid": (1 << 22) - 1})

    monkeypatch.setattr(LedgerClient, "bind", other_pids)
    for module in (ledgers_of_hosts, promise):
        monkeypatch.setattr(module, "LEASE_SECONDS", 4)
    for module in (parts, promise):
        monkeypatch.setattr(module, "RENEW_SECONDS", 0.5)
    await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    await until_status(pair.head, "qwen", "ready")

    async def ends() -> list[str]:
        answers = [await gpu.get("/api/v1/gpu/reservations") for gpu in pair.gpus.values()]
        return [each["expires_at"] for answer in answers for each in answer.json()["reservations"]]

    first = await ends()
    assert len(first) == 2
    later = await until(ends, lambda now: len(now) != 2 or min(now) > max(first), 10)
    assert len(later) == 2, "renewed, not expired"
    await pair.head.delete(f"{INSTANCES}/qwen")
    assert await pair.reserved() == [0, 0]
