"""What docker-compose makes of the files: each overlay beside the main file, with and without an env file."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from compute_cli.suite import SERVICES
from tests.support.compose import ROOT, compose_command

OURS = {*(spec.name for spec in SERVICES), "compute-node"}
SECRETS = {
    "COMPUTE_API_KEY": "key",
    "NATS_PASSWORD": "n4ts",
    "NATS_SYS_PASSWORD": "s1s",
    "NATS_CLUSTER_PASSWORD": "r0utes",
}


def attempt(
    *overlays: str, env_file: str | None = None, variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """`config` of the main file and these overlays, in an environment with nothing else in it."""
    command = compose_command()
    if command is None:
        pytest.skip("no docker-compose here; `make test-deps` installs it")
    files = ["docker-compose.yml", *(f"deploy/compose.{name}.yml" for name in overlays)]
    argv = [
        *command,
        *(["--env-file", env_file] if env_file else []),
        *(word for file in files for word in ("-f", file)),
        *("--profile", "compute", "--profile", "monitoring", "config"),
    ]
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "DOCKER_HOST")}
    return subprocess.run(
        argv,
        cwd=ROOT,
        env={**kept, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def config(*overlays: str, **options: Any) -> dict[str, Any]:
    done = attempt(*overlays, **options)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def test_a_fresh_clone_needs_no_env_file_and_the_example_changes_nothing() -> None:
    assert not (ROOT / ".env").exists(), "this clone is not fresh"
    assert config() == config(env_file="env.shared.example")


def test_nvidia_gives_the_cards_to_the_two_that_look_at_them() -> None:
    services = config("nvidia")["services"]
    cards = {"driver": "nvidia", "count": "all", "capabilities": ["gpu", "utility"]}
    with_cards = {name for name, service in services.items() if "deploy" in service}
    assert with_cards == {"resource-detector", "gpu-orchestrator"}
    for name in with_cards:
        assert _cards(services[name]) == [cards]
    assert {name for name, service in services.items() if service.get("pid") == "host"} == {
        "gpu-orchestrator"
    }


def test_rocm_gives_the_detector_the_devices_and_their_groups() -> None:
    services = config("rocm", variables={"RENDER_GID": "992"})["services"]
    assert {name for name, service in services.items() if "devices" in service} == {"resource-detector"}
    detector = services["resource-detector"]
    assert sorted(_device(device) for device in detector["devices"]) == ["/dev/dri", "/dev/kfd"]
    assert detector["group_add"] == ["44", "992"]


def test_supabase_is_told_to_the_two_that_store() -> None:
    given = {"SUPABASE_URL": "https://x.supabase.co", "SUPABASE_SERVICE_KEY": "secret-key"}
    services = config("supabase", variables=given)["services"]
    holders = {
        name for name, service in services.items() if "secret-key" in service.get("environment", {}).values()
    }
    assert holders == {"node-registry", "benchmark-runner"}
    refused = attempt("supabase", variables={"SUPABASE_URL": "https://x.supabase.co"})
    assert refused.returncode != 0
    assert "SUPABASE_SERVICE_KEY" in refused.stderr


def test_the_cluster_asks_for_its_secrets_and_has_one_benchmark_runner() -> None:
    file = "deploy/cluster.env.example"
    refused = attempt("cluster", env_file=file)
    assert refused.returncode != 0
    assert " is missing (" in refused.stderr
    services = config("cluster", env_file=file, variables=SECRETS)["services"]
    for name in OURS:
        environment = services[name]["environment"]
        assert (environment["COMPUTE_ALLOW_NO_KEY"], environment["COMPUTE_API_KEY"]) == ("0", "key")
        assert (environment["NATS_USER"], environment["NATS_PASSWORD"]) == ("compute", "n4ts")
    assert services["work-marshaling"]["environment"]["WORK_STREAM_REPLICAS"] == "3"
    assert services["nats"]["environment"]["NATS_ROUTE_3"] == "nats-route://routes:r0utes@10.0.0.3:6222"
    elsewhere = config("cluster", env_file=file, variables={**SECRETS, "BENCHMARK_RUNNERS": "0"})["services"]
    assert [services["benchmark-runner"]["scale"], elsewhere["benchmark-runner"]["scale"]] == [1, 0]


def test_pmoves_joins_its_networks_and_starts_no_nats() -> None:
    document = config("pmoves", env_file="deploy/pmoves.env.example")
    services = document["services"]
    assert services["nats"]["scale"] == 0
    for name in OURS:
        assert set(services[name]["networks"]) == {"default", "api_tier", "bus_tier"}
    names = {key: network["name"] for key, network in document["networks"].items() if key.endswith("_tier")}
    assert names == {"api_tier": "pmoves_api", "bus_tier": "pmoves_bus"}
    published = {_published(port) for service in services.values() for port in service.get("ports", [])}
    assert {8198, 3300, 9190} < published
    assert not {8098, 3000} & published


def test_node_accounts_ask_for_their_folder_and_log_every_program_in() -> None:
    refused = attempt("accounts")
    assert refused.returncode != 0
    assert " is missing (" in refused.stderr
    given = {"NATS_NODES_DIR": "/srv/nodes", "NATS_PASSWORD": "n4ts", "NATS_SYS_PASSWORD": "s3cret"}
    services = config("accounts", variables=given)["services"]
    for name in OURS:
        environment = services[name]["environment"]
        assert (environment["NATS_USER"], environment["NATS_PASSWORD"]) == ("compute", "n4ts")
        assert (environment.get("NATS_SYS_PASSWORD") == "s3cret") == (name == "node-registry")
    assert any("/srv/nodes" in str(volume) for volume in services["nats"]["volumes"])


@pytest.mark.parametrize("overlay", ["nvidia", "rocm"])
def test_engines_in_containers_go_with_the_cards(overlay: str) -> None:
    assert set(config(overlay, "docker-runtime")["services"]) > OURS | {"docker-proxy"}


def test_all_that_one_pmoves_host_may_want_together() -> None:
    document = config("pmoves", "nvidia", "docker-runtime", env_file="deploy/pmoves.env.example")
    networks = document["services"]["vllm-orchestrator"]["networks"]
    assert set(networks) == {"default", "api_tier", "bus_tier", "engines"}


def test_every_overlay_is_tested_here_and_told_in_the_readme() -> None:
    tested = Path(__file__).read_text()
    told = (ROOT / "deploy" / "README.md").read_text()
    for file in (ROOT / "deploy").glob("compose.*.yml"):
        assert f'"{file.name.split(".")[1]}"' in tested
        assert file.name in told


def _cards(service: dict[str, Any]) -> list[dict[str, Any]]:
    devices: list[dict[str, Any]] = service["deploy"]["resources"]["reservations"]["devices"]
    return [
        {**device, "count": "all" if device["count"] in ("all", -1) else device["count"]}
        for device in devices
    ]


def _device(device: Any) -> str:
    return str(device["source"]) if isinstance(device, dict) else str(device).split(":")[0]


def _published(port: Any) -> int:
    return int(port["published"]) if isinstance(port, dict) else int(str(port).split(":")[-2])
