"""Every panel and every alert, asked of a real Prometheus that scraped the real services at work.

The scenario: a suite with a small model; a second host whose two GPUs are played, one of them reserved; work
done, work that waits, a report about nothing; then a node that is lost, and the alert for it.
"""

import asyncio
import json
import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
import yaml
from scripts.dashboards import rendered

from compute_cli.suite import SERVICES, uvicorn_argv
from compute_common import subjects
from tests.e2e.conftest import MODEL, wait_ready
from tests.support.metrics import documented, exposed, panels
from tests.support.nvml import Played
from tests.support.nvml.fixture import nvml_library
from tests.support.nvml.scenarios import unlike_pair
from tests.support.ports import free_port
from tests.support.prometheus import CONFIGURATION, Prometheus, require_prometheus
from tests.support.suite import RunningSuite, wait_for

__all__ = ["nvml_library"]

SECOND_HOST = {"resource-detector", "gpu-orchestrator"}
GPU_NODE = "gpu-box"
FIRING_SECONDS = 5


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[RunningSuite]:
    """One of this module's own: other tests count the session's nodes."""
    assert model_file.exists()
    running = RunningSuite(tmp_path_factory.mktemp("monitored") / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def second_host(
    suite: RunningSuite, nvml_library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Detector and GPU orchestrator of a host with two GPUs; service → address."""
    folder = tmp_path_factory.mktemp("gpu-box")
    played = Played(nvml_library, unlike_pair(), folder)
    where = {"COMPUTE_HOME": str(folder / "home"), "NODE_ID": GPU_NODE, **played.environment}
    with _programs(suite, where) as addresses:
        yield addresses


@contextmanager
def _programs(suite: RunningSuite, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    started, addresses = [], {}
    try:
        for spec in SERVICES:
            if spec.name in SECOND_HOST:
                port = free_port()
                started.append(suite.program(uvicorn_argv(spec.package, "127.0.0.1", port), **environment))
                addresses[spec.name] = f"127.0.0.1:{port}"
        wait_for(lambda: all(_is_ready(address) for address in addresses.values()))
        yield addresses
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(10)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/readyz", timeout=1).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def prometheus(
    suite: RunningSuite, second_host: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It scraped before, during and after the scenario."""
    require_prometheus()
    names = {f"{spec.name}:{spec.port}": suite.url(spec.name).removeprefix("http://") for spec in SERVICES}
    folder = tmp_path_factory.mktemp("prometheus") / "run"
    with Prometheus(folder, names, list(second_host.values())) as running:
        wait_for(lambda: len(running.query("up == 1")) == len(running.targets))
        _scenario(suite, second_host)
        wait_for(lambda: running.query("increase(compute_work_run_seconds_count[30s]) > 0"))
        last = _submit(suite, model_name="smollm2", payload={"prompt": "Two", "max_tokens": 3})
        wait_for(lambda: _status(suite, last) == "completed")
        asked = (
            'route="/api/v1/work/submit"'  # a series that begins with its first request rises with the second
        )
        wait_for(
            lambda: running.query(
                f"increase(compute_http_request_duration_seconds_count{{{asked}}}[30s]) > 0"
            )
        )
        wait_for(lambda: running.query('sum(compute_work_ended_total{status="completed"}) == 4'))
        yield running


def _scenario(suite: RunningSuite, second_host: dict[str, str]) -> None:
    deploy = {"model_name": MODEL, "instance_name": "smollm2", "node_id": "test-node"}
    suite.post("vllm-orchestrator", "/api/v1/vllm/deploy", deploy)
    wait_ready(suite, "smollm2")
    reserve = {"gpu_indices": [0], "required_mb": 2000}
    answer = httpx.post(f"http://{second_host['gpu-orchestrator']}/api/v1/gpu/reserve", json=reserve)
    assert answer.status_code == 201, answer.text
    done = [
        _submit(suite, model_name="smollm2", payload={"prompt": "One", "max_tokens": 3}) for _ in range(3)
    ]
    _submit(suite, model_name="nobody-has-it", payload={"prompt": "One"}, priority=2)
    failing = _submit(suite, model_name="smollm2", payload={"neither": 1})
    asyncio.run(_report_about_nothing(suite.nats_url))
    wait_for(lambda: all(_status(suite, work_id) == "completed" for work_id in done))
    wait_for(lambda: _status(suite, failing) == "failed")


def _submit(suite: RunningSuite, **body: Any) -> str:
    answer = suite.post("work-marshaling", "/api/v1/work/submit", {"work_type": "inference", **body})
    return str(answer["work_id"])


def _status(suite: RunningSuite, work_id: str) -> str:
    return str(suite.get("work-marshaling", f"/api/v1/work/{work_id}")["status"])


async def _report_about_nothing(url: str) -> None:
    """The log counts it as ignored."""
    client = await nats.connect(url)
    await client.publish(subjects.WORK_COMPLETED, json.dumps({"work_id": "none", "result": 1}).encode())
    await client.drain()


# --- what is asked


def test_prometheus_took_our_configuration_and_scrapes_every_service(prometheus: Prometheus) -> None:
    targets = prometheus.get("/api/v1/targets")["activeTargets"]
    assert {target["labels"]["instance"] for target in targets} == set(prometheus.targets)
    assert {target["health"] for target in targets} == {"up"}, [target["lastError"] for target in targets]
    rules = prometheus.get("/api/v1/rules")["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} == {"ok"}


def test_every_panel_of_every_dashboard_shows_something(prometheus: Prometheus) -> None:
    boards = [json.loads(text) for text in rendered().values()]
    empty = [
        f"{title}: {query}"
        for board in boards
        for title, query in panels(board)
        if not any(math.isfinite(float(row["value"][1])) for row in prometheus.query(query))
    ]
    assert not empty, "\n".join(empty)


def test_every_choice_of_every_dashboard_has_values(prometheus: Prometheus) -> None:
    for text in rendered().values():
        for variable in json.loads(text)["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = (
                    variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ")
                )
                rows = prometheus.query(f"count by ({label}) ({metric.replace('$node', '.*')})")
                assert rows, variable["definition"]


def test_what_prometheus_says_is_so(suite: RunningSuite, prometheus: Prometheus) -> None:
    def value(query: str) -> float:
        return float(prometheus.query(query)[0]["value"][1])

    assert value("sum(compute_nodes_online)") == 2
    assert value("compute_work_pending") == 1
    assert value('compute_instances{status="ready"}') == 1
    assert value('sum(compute_work_ended_total{status="completed", node_id="test-node"})') == 4
    assert value('sum(compute_work_ended_total{status="failed"})') == 1
    gpu = f'node_id="{GPU_NODE}", device="0"'
    assert value(f'compute_memory_bytes{{{gpu}, kind="reserved"}}') == 2000 * 2**20
    assert value(f"compute_gpu_power_limit_watts{{{gpu}}}") == 450
    assert value('compute_jetstream_messages{stream="COMPUTE_WORK"}') > 10
    assert value("compute_nats_server_store_limit_bytes") == 20 * 2**30
    assert value("compute_nats_server_connections") > len(SERVICES)
    assert suite.get("work-marshaling", "/api/v1/stats")["pending"] == 1


@pytest.mark.usefixtures("prometheus")
def test_the_page_names_every_metric_with_its_type_and_labels(
    suite: RunningSuite, second_host: dict[str, str]
) -> None:
    table = {metric.name: metric for metric in documented()}
    told: dict[str, set[str]] = {}
    urls = [*suite.suite.urls.items(), *((name, f"http://{at}") for name, at in second_host.items())]
    for service, url in urls:
        for family in exposed(httpx.get(f"{url}/metrics").text):
            row = table.get(family.name)
            assert row is not None, f"{family.name} of {service} is not in docs/metrics.md"
            assert service in row.services, f"{family.name} is told by {service}, too"
            assert family.kind == row.kind, family.name
            assert family.labels <= {row.labels}, f"{family.name} of {service}: {family.labels}"
            told.setdefault(family.name, set()).add(service)
    assert {name: set(row.services) for name, row in table.items()} == told


@pytest.mark.usefixtures("prometheus")
def test_promtool_finds_fault_with_one_promised_name_only(suite: RunningSuite) -> None:
    said = set()
    for url in suite.suite.urls.values():
        text = httpx.get(f"{url}/metrics").content
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)  # noqa: S607
        said |= set((done.stdout + done.stderr).decode().splitlines())
    assert said == {'compute_nodes_total non-counter metrics should not have "_total" suffix'}


def test_every_alert_is_quiet_while_all_is_well(prometheus: Prometheus) -> None:
    """Their expressions are asked, and answer nothing; each has what it needs to fire one day."""
    for path in CONFIGURATION.glob("rules/*.yml"):
        for rule in (rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]):
            assert prometheus.query(rule["expr"]) == [], rule["alert"]
            for part in rule["expr"].replace("\n", " ").split(" or "):
                base = (
                    part.split(" and ")[0].split(" == ")[0].split(" < ")[0].split(" > ")[0].split(" >= ")[0]
                )
                assert prometheus.query(base), f"{rule['alert']}: nothing to compare in {base}"


def test_a_lost_node_becomes_a_pending_alert(suite: RunningSuite, prometheus: Prometheus) -> None:
    document = {"node_id": "short-lived", "hostname": "short-lived", "heartbeat_seconds": 1}
    suite.post("node-registry", "/api/v1/nodes/register", document)
    suite.post("node-registry", "/api/v1/nodes/heartbeat", {"node_id": "short-lived"})
    alert = 'ALERTS{alertname="NodeLost", node_id="short-lived"}'
    wait_for(lambda: prometheus.query(alert), 20)
