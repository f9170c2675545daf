"""Real vLLM deployed by the suite on processors: one rank, two, stages, and ranks on two hosts."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.suite import RunningSuite, wait_for
from tests.vllm.engine import cpu_environment
from tests.vllm.test_oracle import SHAPES

pytestmark = pytest.mark.timeout(900)

ModelMaker = Callable[[str, dict[str, Any]], Path]
READY_SECONDS = 300
ORCHESTRATOR, LEDGER = "vllm-orchestrator", "gpu-orchestrator"


@pytest.fixture
def environment(vllm_binary: Path, tiny_model: ModelMaker) -> dict[str, str]:
    """vLLM on PATH, a model folder of tiny models, bytecode kept."""
    models = tiny_model("llama", SHAPES["llama"]).parent
    kept = {key: value for key, value in cpu_environment().items() if not key.startswith(("VLLM_CPU", "OMP"))}
    path = f"{vllm_binary.parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "VLLM_MODEL_PATH": str(models), "PYTHONDONTWRITEBYTECODE": ""}


@pytest.fixture
def suite(environment: dict[str, str], tmp_path: Path) -> Iterator[RunningSuite]:
    running = RunningSuite(tmp_path / "first", **environment)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def deploy(suite: RunningSuite, tp: int, pp: int) -> dict[str, Any]:
    body = {
        "model_name": "llama",
        "instance_name": f"tiny-{tp}-{pp}",
        "engine": "vllm",
        "max_model_len": 1024,
        "tensor_parallel_size": tp,
        "pipeline_parallel_size": pp,
        "enforce_eager": pp == 1,
    }
    started: dict[str, Any] = suite.post(ORCHESTRATOR, "/api/v1/vllm/deploy", body)
    return started


def until_ready(suite: RunningSuite, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        instance: dict[str, Any] = suite.get(ORCHESTRATOR, f"/api/v1/vllm/instances/{name}")
        assert instance["status"] != "failed", instance["last_error"]
        return instance if instance["status"] == "ready" else None

    found: dict[str, Any] = wait_for(look, READY_SECONDS)
    return found


def answers(suite: RunningSuite, name: str) -> None:
    body = {"model": name, "prompt": "the capital", "max_tokens": 4, "ignore_eos": True}
    answer = suite.post(ORCHESTRATOR, "/v1/completions", body)
    assert answer["usage"]["completion_tokens"] == 4


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("vllm_dist_*")}


def remove(suite: RunningSuite, name: str, before: set[str]) -> None:
    """After the end nothing is left: no process, no reservation, no shared memory."""
    gone = suite.request("DELETE", ORCHESTRATOR, f"/api/v1/vllm/instances/{name}")
    assert gone.json()["status"] == "stopped", gone.text
    wait_for(lambda: not [process for process in suite.processes() if "VLLM" in process.name()])
    wait_for(lambda: suite.get(LEDGER, "/api/v1/gpu/reservations")["count"] == 0)
    assert shared_memory() <= before, "what this engine left in /dev/shm is swept"


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 2)], ids=["one", "tp2", "pp2"])
def test_on_one_host(suite: RunningSuite, tp: int, pp: int) -> None:
    before = shared_memory()
    started = deploy(suite, tp, pp)
    assert (started["strategy"], len(started["placement"])) == ("CPU", 1)
    name = started["instance_name"]
    until_ready(suite, name)
    answers(suite, name)
    remove(suite, name, before)


def test_ranks_on_two_hosts(suite: RunningSuite, environment: dict[str, str], tmp_path: Path) -> None:
    """Neither host has the RAM for both ranks: each holds one, and one address answers."""
    second = RunningSuite(tmp_path / "second", **environment, NATS_URL=suite.nats_url, NODE_ID="second-node")
    try:
        second.start("--host-only")
        one_rank = suite.post(
            ORCHESTRATOR,
            "/api/v1/vllm/plan",
            {"model_name": "llama", "engine": "vllm", "max_model_len": 1024, "enforce_eager": True},
        )["plan"]["placement"][0]["reserved_mb"]
        for host in (suite, second):
            fill(host, keep_mb=one_rank + 1200)
        wait_for(
            lambda: suite.request("GET", "node-registry", "/api/v1/nodes/second-node").json().get("managed")
        )
        started = deploy(suite, 2, 1)
        assert {place["node_id"] for place in started["placement"]} == {"test-node", "second-node"}
        name = started["instance_name"]
        until_ready(suite, name)
        answers(suite, name)
        for host in (suite, second):
            assert host.get(LEDGER, "/api/v1/gpu/reservations")["count"] == 2, "the filler and a rank"
        gone = suite.request("DELETE", ORCHESTRATOR, f"/api/v1/vllm/instances/{name}")
        assert gone.json()["status"] == "stopped", gone.text
        for host in (suite, second):
            wait_for(lambda host=host: host.get(LEDGER, "/api/v1/gpu/reservations")["count"] == 1)
            wait_for(lambda host=host: not [one for one in host.processes() if "VLLM" in one.name()])
    finally:
        second.stop()


def fill(host: RunningSuite, keep_mb: int) -> None:
    """Promise all of a host's RAM but `keep_mb` to somebody else."""
    free = host.get(LEDGER, "/api/v1/gpu/states")["host_memory"]["available_mb"]
    body = {"gpu_indices": [], "required_mb": free - keep_mb, "timeout_seconds": 900, "owner": "filler"}
    host.post(LEDGER, "/api/v1/gpu/reserve", body)
