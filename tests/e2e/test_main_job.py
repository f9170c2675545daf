"""The main job: detect, announce, deploy, ask through the queue, measure."""

from typing import Any

import pytest

from compute_cli.suite import SERVICES
from tests.support.suite import RunningSuite, wait_for

pytestmark = pytest.mark.engine

QUESTION = "What is the capital of France? Answer in one short sentence."


def test_all_six_are_healthy_and_expose_metrics(suite: RunningSuite) -> None:
    for spec in SERVICES:
        wait_for(lambda name=spec.name: suite.get(name, "/healthz")["status"] == "healthy")
        assert suite.get(spec.name, "/healthz")["service"] == spec.name
        metrics = suite.request("GET", spec.name, "/metrics")
        assert "compute_service_info" in metrics.text


def test_this_host_announced_itself(suite: RunningSuite) -> None:
    wait_for(lambda: (_node(suite) or {}).get("cpu_threads"))
    node = wait_for(lambda: (_node(suite) or {}).get("work_types") and _node(suite))
    detected = suite.get("resource-detector", "/api/v1/detect")
    assert node["status"] in ("online", "busy")
    assert node["tier"] == detected["tier"]
    assert node["cpu_threads"] == detected["cpu"]["threads"] > 0
    assert node["memory"]["total_mb"] == detected["memory"]["total_mb"] > 0
    assert "inference" in node["work_types"]


def test_a_question_is_answered_through_the_queue(suite: RunningSuite, smollm2: dict[str, Any]) -> None:
    assert smollm2["engine"] == "llama_cpp"
    body = {
        "work_type": "inference",
        "model_name": "smollm2",
        "payload": {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 24, "temperature": 0},
    }
    submitted = suite.post("work-marshaling", "/api/v1/work/submit", body)
    item = suite.get("work-marshaling", f"/api/v1/work/{submitted['work_id']}", params={"wait": 30})
    assert item["status"] == "completed", item
    assert item["assigned_node"] == "test-node"
    assert "Paris" in item["result"]["text"]
    assert 0 < item["result"]["ttft_ms"] <= item["result"]["duration_ms"]
    assert item["result"]["instance_name"] == "smollm2"


def test_ram_of_the_engine_is_reserved(suite: RunningSuite, smollm2: dict[str, Any]) -> None:
    reservations = suite.get("gpu-orchestrator", "/api/v1/gpu/reservations")["reservations"]
    mine = [held for held in reservations if held["gpu_indices"] == [] and held["state"] == "bound"]
    assert [held["reserved_mb"] for held in mine] == [smollm2["placement"][0]["reserved_mb"]]


def test_a_two_cell_benchmark_runs_and_is_fed_back(suite: RunningSuite, smollm2: dict[str, Any]) -> None:
    assert smollm2["status"] == "ready"
    body = {
        "model_name": "smollm2",
        "gpu_count": 0,
        "batch_sizes": [1, 2],
        "context_lengths": [64],
        "output_tokens": 8,
    }
    run = suite.post("benchmark-runner", "/api/v1/benchmark/run", body)
    path = f"/api/v1/benchmark/{run['benchmark_id']}"

    def finished() -> dict[str, Any] | None:
        found: dict[str, Any] = suite.get("benchmark-runner", path)
        return found if found["status"] not in ("queued", "running") else None

    result = wait_for(finished, 120)
    assert result["status"] == "completed", result["error"]
    assert [cell["batch_size"] for cell in result["cells"]] == [1, 2]
    for cell in result["cells"]:
        assert cell["errors"] == 0
        assert cell["output_tokens_per_s"] > 1
        assert cell["ttft_ms"]["p50"] > 0
    assert wait_for(lambda: (_node(suite) or {}).get("measured"))


def test_a_host_without_gpu_says_so(suite: RunningSuite) -> None:
    states = suite.get("gpu-orchestrator", "/api/v1/gpu/states")
    if states["gpus"]:
        pytest.skip("this host has a GPU")
    body = {"gpu_indices": [0, 1], "required_mb": 24_576, "timeout_seconds": 300}
    refusal = suite.request("POST", "gpu-orchestrator", "/api/v1/gpu/reserve", json=body)
    assert (refusal.status_code, refusal.json()["type"]) == (409, "urn:compute:error:no-gpu")


def test_what_nobody_serves_waits_and_says_why(suite: RunningSuite) -> None:
    body = {"work_type": "inference", "model_name": "nobody-has-this", "payload": {"prompt": "x"}}
    submitted = suite.post("work-marshaling", "/api/v1/work/submit", body)
    path = f"/api/v1/work/{submitted['work_id']}"
    item = suite.get("work-marshaling", path)
    assert item["status"] == "pending"
    assert "nobody-has-this" in item["waiting_for"]
    cancelled = suite.request("DELETE", "work-marshaling", path).json()
    assert (cancelled["cancelled"], cancelled["status"]) == (True, "cancelled")


def test_the_commands_show_it(suite: RunningSuite, smollm2: dict[str, Any]) -> None:
    assert smollm2["instance_name"] in suite.compute("instances").stdout
    assert "test-node" in suite.compute("nodes").stdout
    status = suite.compute("status")
    assert (status.returncode, status.stdout.count("healthy")) == (0, 6)
    answer = suite.compute("submit", "Say hello.", "--model", "smollm2", "--wait", "--json")
    assert '"status": "completed"' in answer.stdout, answer.stderr
    assert suite.compute("work", "no-such-item").returncode == 1


def _node(suite: RunningSuite) -> dict[str, Any] | None:
    answer = suite.request("GET", "node-registry", "/api/v1/nodes/test-node")
    return answer.json() if answer.is_success else None
