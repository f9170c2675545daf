"""Starting, crashing, ending: nothing accepted is lost, nothing is left behind."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import MODEL, wait_ready
from tests.support.suite import RunningSuite, wait_for

pytestmark = pytest.mark.engine


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningSuite]:
    """A suite this test may break."""
    running = RunningSuite(tmp_path / "own")
    yield running
    running.stop(signal.SIGKILL)
    for process in running.processes():
        process.kill()


def ask(suite: RunningSuite, tokens: int) -> str:
    body = {
        "work_type": "inference",
        "model_name": "smollm2",
        "payload": {"prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True},
    }
    work_id: str = suite.post("work-marshaling", "/api/v1/work/submit", body)["work_id"]
    return work_id


def item_of(suite: RunningSuite, work_id: str) -> dict[str, Any]:
    item: dict[str, Any] = suite.get("work-marshaling", f"/api/v1/work/{work_id}")
    return item


def test_kill_9_of_work_marshaling_between_submit_and_completion(
    suite: RunningSuite, smollm2: dict[str, Any]
) -> None:
    assert smollm2["status"] == "ready"
    work_id = ask(suite, 200)
    wait_for(lambda: item_of(suite, work_id)["status"] == "assigned")
    psutil.Process(suite.pid_of("work-marshaling")).kill()
    wait_for(lambda: _serving(suite, "work-marshaling"))
    item = suite.get("work-marshaling", f"/api/v1/work/{work_id}", params={"wait": 30})
    assert (item["status"], item["attempt"]) == ("completed", 1), item
    assert item["result"]["usage"]["completion_tokens"] == 200
    finals = [entry for entry in item["history"] if entry["event"] in ("completed", "failed", "cancelled")]
    assert len(finals) == 1


@pytest.mark.parametrize("name", ["node-registry", "gpu-orchestrator", "compute-node"])
def test_a_program_that_dies_is_started_again(
    suite: RunningSuite, smollm2: dict[str, Any], name: str
) -> None:
    assert smollm2["status"] == "ready"
    before = suite.pid_of(name)
    psutil.Process(before).kill()
    wait_for(lambda: suite.pid_of(name) != before)
    if name != "compute-node":
        wait_for(lambda: _serving(suite, name))
    work_id = ask(suite, 4)
    item = suite.get("work-marshaling", f"/api/v1/work/{work_id}", params={"wait": 30})
    assert item["status"] == "completed", item
    assert f"{name} died (signal SIGKILL)" in (suite.home / "up.log").read_text()


def test_it_ends_in_time_and_remembers(own: RunningSuite, model_file: Path) -> None:
    """SIGTERM: exit code 0 within 5 s, no process left; the next start brings the model back."""
    assert model_file.exists()
    own.start()
    own.post("vllm-orchestrator", "/api/v1/vllm/deploy", {"model_name": MODEL, "instance_name": "smollm2"})
    wait_ready(own, "smollm2")
    done = ask(own, 2)
    assert own.get("work-marshaling", f"/api/v1/work/{done}", params={"wait": 30})["status"] == "completed"
    running = own.processes()
    assert len(running) >= 9  # compute, nats, six services, the node program
    engine = psutil.Process(json.loads((own.home / "engines" / "smollm2.json").read_text())["pid"])
    code, seconds = own.stop(signal.SIGTERM)
    assert (code, seconds < 5) == (0, True), (code, seconds)
    assert own.processes() == []
    assert not _alive(engine.pid)

    own.start()
    assert item_of(own, done)["status"] == "completed"
    wait_ready(own, "smollm2")
    item = own.get("work-marshaling", f"/api/v1/work/{ask(own, 2)}", params={"wait": 30})
    assert item["status"] == "completed", item
    code, seconds = own.stop(signal.SIGINT)
    assert (code, seconds < 5) == (0, True), (code, seconds)
    assert own.processes() == []


def test_after_a_killed_supervisor_the_next_start_clears_up(own: RunningSuite) -> None:
    own.start("--no-node")
    left = [process.pid for process in own.processes()]
    own.stop(signal.SIGKILL)
    own.start("--no-node")
    assert "left behind" in (own.home / "up.log").read_text()
    assert not [pid for pid in left if _alive(pid)]
    assert "compute-node" not in " ".join(path.stem for path in (own.home / "run").glob("*.json"))
    second = own.compute("up")
    assert (second.returncode, "already runs" in second.stderr) == (1, True)
    assert own.compute("down").returncode == 0
    assert own.process is not None
    assert own.process.wait(10) == 0


def test_a_port_in_use_is_named(own: RunningSuite) -> None:
    port = own.suite.addresses["work-marshaling"].port
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        refused = own.compute("up")
    assert refused.returncode == 1
    assert f"port {port} (work-marshaling) is already in use" in refused.stderr
    assert "WORK_MARSHALING_PORT" in refused.stderr
    assert own.processes() == []


def test_a_second_machine_joins_with_one_line(suite: RunningSuite, tmp_path: Path) -> None:
    """`NATS_URL=… compute node` from another home under another name."""
    more = {"NATS_URL": suite.nats_url, "COMPUTE_HOME": str(tmp_path / "second"), "NODE_ID": "second-box"}
    node = suite.program([sys.executable, "-m", "compute_cli.main", "node"], **more)
    try:
        joined = wait_for(lambda: _node(suite, "second-box"))
        assert joined["status"] == "online"
        assert joined["cpu_threads"] > 0
        assert {"test-node", "second-box"} <= {
            n["node_id"] for n in suite.get("node-registry", "/api/v1/nodes")["nodes"]
        }
    finally:
        node.terminate()
        assert node.wait(10) == 0


def test_a_second_host_serves_models_for_the_cluster(
    suite: RunningSuite, smollm2: dict[str, Any], tmp_path: Path
) -> None:
    """`NATS_URL=… compute up --host-only`: deployed on from the first host, asked through its queue."""
    assert smollm2["status"] == "ready"
    host = RunningSuite(
        tmp_path / "host", NATS_URL=suite.nats_url, NODE_ID="gpu-box.lan", ENGINE_PORTS="18150-18159"
    )
    host.start("--host-only")
    try:
        body = {"model_name": MODEL, "instance_name": "on-the-box", "node_id": "gpu-box.lan"}
        wait_for(lambda: (_node(suite, "gpu-box.lan") or {}).get("work_types"))
        plan = suite.post("vllm-orchestrator", "/api/v1/vllm/deploy", body)
        assert plan["placement"][0]["node_id"] == "gpu-box.lan"
        wait_ready(suite, "on-the-box")
        work = {
            "work_type": "inference",
            "model_name": "on-the-box",
            "payload": {"prompt": "Hi", "max_tokens": 2},
        }
        work_id = suite.post("work-marshaling", "/api/v1/work/submit", work)["work_id"]
        item = suite.get("work-marshaling", f"/api/v1/work/{work_id}", params={"wait": 30})
        assert (item["status"], item["assigned_node"]) == ("completed", "gpu-box.lan"), item
        stopped = suite.request("DELETE", "vllm-orchestrator", "/api/v1/vllm/instances/on-the-box")
        assert stopped.is_success, stopped.text
    finally:
        code, _seconds = host.stop()
    assert code == 0
    assert host.processes() == []


def _serving(suite: RunningSuite, name: str) -> bool:
    try:
        return suite.request("GET", name, "/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def _node(suite: RunningSuite, node_id: str) -> dict[str, Any] | None:
    answer = suite.request("GET", "node-registry", f"/api/v1/nodes/{node_id}")
    return answer.json() if answer.is_success else None


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
