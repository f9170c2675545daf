"""What Prometheus itself says of our configuration, rules and their tests; and each alert's page."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.metrics import documented, metrics_in

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/prometheus"
WANTED = {
    "NodeLost", "OutOfMemoryPredicted", "QueueStuck", "NatsDown", "InstanceFlapping", "ServiceDown",
}  # fmt: skip


def alerts() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("rules/*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules/compute.yml"),
        ("test", "rules", "tests/compute.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: make test-deps")
    command = [promtool, *arguments[:2], str(FOLDER / arguments[2])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_has_a_page_and_asks_for_what_exists() -> None:
    tested = (FOLDER / "tests/compute.test.yml").read_text()
    pages = set(re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    known = {metric.name for metric in documented()}
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    assert set(names) >= WANTED
    for rule in alerts():
        name = rule["alert"]
        assert f"alertname: {name}" in tested
        assert name in pages
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert {"summary", "description"} <= rule["annotations"].keys()
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert metrics_in(rule["expr"]) <= known


def test_the_six_services_are_scraped_under_their_compose_names() -> None:
    targets = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert [target for group in targets for target in group["targets"]] == [
        "node-registry:8115",
        "resource-detector:8116",
        "vllm-orchestrator:8117",
        "work-marshaling:8118",
        "benchmark-runner:8119",
        "gpu-orchestrator:8098",
    ]
