"""How engines end: drained by DELETE, or unasked, again and again."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    NODE,
    ON_A_CARD,
    SMOLLM,
    engine_pid,
    gone,
    ledger,
    orchestrator,
    until,
    until_status,
)
from tests.integration.vllm_orchestrator.stand_in import put_on_path
from tests.support.apps import serving
from tests.support.nats import NatsServer
from vllm_orchestrator.engines.shared_memory import FOLDER

DEPLOY = {"model_name": SMOLLM, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 2}
TOKENS = 200

# A `vllm` that says it is well for a moment and then leaves with code 0, as vLLM does when a worker dies.
# Its worker outlives it and holds a segment in /dev/shm.
LEAVES = f"""#!{sys.executable}
import os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
if os.fork() == 0:
    segment = SharedMemory("psm_" + os.environ["SEGMENTS"] + str(os.getpid()), create=True, size=4096)
    resource_tracker.unregister(segment._name, "shared_memory")
    time.sleep(600)
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self): self.answer()
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer()
        threading.Timer(0.5, lambda: (print("a worker died", flush=True), os._exit(0))).start()
    def answer(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{{}}")
port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.mark.engine
async def test_delete_lets_what_is_under_way_finish(nats_server: NatsServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with ledger(nats_server, home) as gpu, serving(orchestrator(nats_server, home)) as client:
        await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        api = (await until_status(client, "smol", "ready"))["endpoints"]["api"]
        pid = engine_pid(home, "smol")

        async def answer() -> Any:
            body = {"model": "smol", "prompt": "Once", "max_tokens": TOKENS, "ignore_eos": True}
            return (await client.post("/v1/completions", json=body)).json()

        async def at_work() -> bool:
            async with httpx.AsyncClient() as direct:
                metrics = (await direct.get(f"{api.removesuffix('/v1')}/metrics")).text
            return "llamacpp:requests_processing 1" in metrics

        asked = asyncio.create_task(answer())
        await until(at_work, bool)
        ended = asyncio.create_task(client.delete(f"{INSTANCES}/smol"))
        await until_status(client, "smol", "stopping")
        late = await client.post("/v1/completions", json={"model": "smol", "prompt": "x"})
        assert late.json()["type"] == "urn:compute:error:no-ready-instance"
        assert not ended.done()
        assert (await asked)["usage"]["completion_tokens"] == TOKENS
        assert (await ended).status_code == 200
        await gone(pid)
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0


@pytest.mark.engine
async def test_draining_is_bounded(nats_server: NatsServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    service = orchestrator(nats_server, home, ENGINE_DRAIN_SECONDS=0.3, ENGINE_STOP_SECONDS=1)
    async with ledger(nats_server, home), serving(service) as client:
        await client.post("/api/v1/vllm/deploy", json={**DEPLOY, "max_model_len": 8192})
        await until_status(client, "smol", "ready")
        pid = engine_pid(home, "smol")
        body = {"model": "smol", "prompt": "Once", "max_tokens": 8000, "ignore_eos": True}
        asked = asyncio.create_task(client.post("/v1/completions", json=body))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            assert (await client.delete(f"{INSTANCES}/smol")).status_code == 200
        await gone(pid)
        await asyncio.wait([asked], timeout=5)
        assert asked.done()


async def test_an_exit_with_code_0_is_a_crash_and_leaves_nothing(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(monkeypatch, tmp_path / "bin", LEAVES)
    home = tmp_path / "home"
    prefix = f"left{os.getpid()}x"
    monkeypatch.setenv("SEGMENTS", prefix)
    ledger_ = gpu_orchestrator(home, nats_server.url, two_gpus(), NODE)
    service = orchestrator(nats_server, home, ENGINE_RESTARTS=1)
    async with serving(ledger_) as gpu, serving(service) as client:
        await client.post("/api/v1/vllm/deploy", json=ON_A_CARD)
        await until_status(client, "qwen", "ready")
        assert len(segments(prefix)) == 1
        failed = await until_status(client, "qwen", "failed")
        assert failed["restarts"] == 1
        reason, *lines = failed["last_error"].splitlines()
        assert reason == "the engine exited unasked"
        assert "a worker died" in lines
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
        assert list((home / "engines").glob("*.json")) == []
        assert segments(prefix) == []
        again = await client.post(f"{INSTANCES}/qwen/start")
        assert again.status_code == 202
        await until_status(client, "qwen", "ready")
        pid = engine_pid(home, "qwen")
        os.kill(pid, signal.SIGKILL)
        await client.delete(f"{INSTANCES}/qwen")
        await gone(pid)
    assert segments(prefix) == []


def segments(prefix: str) -> list[str]:
    return [path.name for path in Path(FOLDER).glob(f"psm_{prefix}*")]
