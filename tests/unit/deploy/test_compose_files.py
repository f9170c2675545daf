"""The compose files by themselves: the specification's schema, and what every service in them has."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from compute_cli.suite import SERVICES

ROOT = Path(__file__).parent.parent.parent.parent
SCHEMA = ROOT / "tests" / "data" / "compose-spec" / "compose-spec.json"
FILES = [
    "docker-compose.yml",
    *sorted(f"deploy/{path.name}" for path in (ROOT / "deploy").glob("compose.*.yml")),
]
OURS = {*(spec.name for spec in SERVICES), "compute-node"}
OTHERS = {
    "nats": "nats:2.15-alpine",
    "prometheus": "prom/prometheus:v2.42.0",
    "grafana": "grafana/grafana:11.6.1",
}


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return document


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read("docker-compose.yml")["services"]
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_schema_of_the_specification_holds(name: str) -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    assert [(error.instance_path, error.message) for error in validator.iter_errors(read(name))] == []


def test_the_schema_refuses_what_is_not_compose() -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    assert not validator.is_valid({"services": {"nats": {"imagee": "nats"}}})


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_compose_1_29_refuses(name: str) -> None:
    document = read(name)
    assert not {"name", "include"} & set(document)
    assert not [service for service in document["services"].values() if "env_file" in service]


def test_what_each_profile_starts(services: dict[str, dict[str, Any]]) -> None:
    profiles = {name: service["profiles"] for name, service in services.items()}
    assert {name for name, of in profiles.items() if of == ["compute"]} == OURS | {"nats"}
    assert {name for name, of in profiles.items() if of == ["monitoring"]} == {"prometheus", "grafana"}
    assert set(profiles) == OURS | set(OTHERS)


def test_names_images_and_the_way_to_the_host(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["container_name"] == name
        assert service["image"] == OTHERS.get(name, f"compute/{name}:0.1.0")
        assert service["extra_hosts"] == ["host.docker.internal:host-gateway"]
        assert service["restart"] == "unless-stopped"
        assert service["logging"]["options"]["max-size"] == "10m"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_our_containers_are_read_only_and_see_the_models_so(services: dict[str, dict[str, Any]]) -> None:
    for name in OURS:
        assert services[name]["read_only"] is True
        assert "${VLLM_MODEL_HOST_PATH:-/models}:/models:ro" in services[name]["volumes"]
        assert services[name]["build"]["args"] == {"SERVICE": name}


def test_ports_are_published_on_loopback_unless_told(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == (OURS | set(OTHERS)) - {"compute-node"}
    monitoring = {"prometheus": ("PROMETHEUS_PORT", 9090), "grafana": ("GRAFANA_PORT", 3000)}
    for name, (variable, port) in monitoring.items():
        assert published.pop(name) == [f"${{MONITORING_BIND:-127.0.0.1}}:${{{variable}:-{port}}}:{port}"]
    assert published.pop("nats") == ["${COMPUTE_BIND:-127.0.0.1}:${NATS_PORT:-4222}:4222"]
    for spec in SERVICES:
        assert published[spec.name] == [
            f"${{COMPUTE_BIND:-127.0.0.1}}:${{{spec.variable}_PORT:-{spec.port}}}:{spec.port}"
        ]


def test_health_is_looked_at_without_curl(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        check = service["healthcheck"]
        assert check["test"][0] == "CMD"
        assert "curl" not in check["test"]
        if name == "compute-node":  # it serves nothing
            assert service["environment"]["PROBE_FILE"] == service["environment"]["COMPUTE_NODE_ALIVE_FILE"]


@pytest.mark.parametrize("name", FILES)
def test_what_is_mounted_from_this_tree_is_there_and_read_only(name: str) -> None:
    for service in read(name)["services"].values():
        for mount in service.get("volumes", []):
            if mount.startswith("./"):
                source, _target, mode = mount.split(":")
                assert (ROOT / source).exists(), mount
                assert mode == "ro", mount


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    provisioning = "deploy/grafana/provisioning"
    [provider] = read(f"{provisioning}/dashboards/compute.yml")["providers"]
    mounts = read("docker-compose.yml")["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    [source] = read(f"{provisioning}/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_the_dockerfile_is_pinned_staged_and_ends_as_nobody_special() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert bases == ["python:3.11-slim-bookworm"] * 3
    final = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in final if line.startswith("USER ")] == ["USER compute"]
    assert not [line for line in lines if re.search(r"RUN --mount|COPY --chmod|<<", line)]
