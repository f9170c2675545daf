"""The committed dashboards: as the script writes them, in Grafana's shape, over metrics that exist."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.dashboards import FOLDER, rendered

from tests.support.metrics import documented, metrics_in, panels

PROVISIONING = FOLDER.parent / "provisioning"
TITLES = {
    "compute-overview": "Distributed Compute Overview",
    "gpu-utilization": "GPU Utilization",
    "work-queue": "Work Queue",
}
UNITS = {
    "short", "bytes", "s", "m", "percentunit", "ops", "reqps", "celsius", "watt",
}  # fmt: skip
OTHERS = {"up", "ALERTS"}


def boards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]


def test_the_committed_files_are_what_the_script_writes() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == rendered(), (
        "run `.venv/bin/python -m scripts.dashboards`"
    )


def test_titles_and_addresses_are_the_contracts() -> None:
    assert {board["uid"]: board["title"] for board in boards()} == TITLES
    assert {path.stem for path in FOLDER.glob("*.json")} == set(TITLES)


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_panels_have_an_id_a_place_a_unit_and_words(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for one, other in itertools.combinations((panel["gridPos"] for panel in board["panels"]), 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        assert [target["refId"] for target in panel["targets"]] == list("ABC")[: len(panel["targets"])]
    titles = [panel["title"] for panel in board["panels"]]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_everything_asks_the_provisioned_data_source(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    source = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())["datasources"][0]
    assert variables["datasource"]["current"]["value"] == source["uid"] == "prometheus"
    asking = [*board["panels"], *board["annotations"]["list"], *variables.values()]
    asking += [target for panel in board["panels"] for target in panel.get("targets", ())]
    uids = {part["datasource"]["uid"] for part in asking if "datasource" in part}
    assert uids == {"${datasource}"}
    assert "node" in variables
    assert ("gpu" in variables) == (board["uid"] == "gpu-utilization")
    assert all(variable in ("datasource", "node", "gpu") for variable in variables)


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_every_query_is_over_documented_metrics_and_fills_its_variables(board: dict[str, Any]) -> None:
    known = {metric.name for metric in documented()}
    for title, query in panels(board):
        assert "$" not in query, title
        found = metrics_in(query)
        assert found <= known, f"{title}: {found - known}"
        assert found or any(word in query for word in OTHERS), title


def test_dashboards_are_provisioned_from_where_compose_mounts_them() -> None:
    provider = yaml.safe_load((PROVISIONING / "dashboards/compute.yml").read_text())["providers"][0]
    compose = yaml.safe_load((Path(__file__).parents[3] / "docker-compose.yml").read_text())
    mounted = [volume.split(":") for volume in compose["services"]["grafana"]["volumes"]]
    assert ["./deploy/grafana/dashboards", provider["options"]["path"], "ro"] in mounted
    assert ["./deploy/grafana/provisioning", "/etc/grafana/provisioning", "ro"] in mounted
