"""What the environment makes of the suite."""

import json
import os
from pathlib import Path

import pytest

from compute_cli.suite import child_environment, service_urls, suite_from, write_suite


def test_defaults_are_loopback_and_the_contract_ports(tmp_path: Path) -> None:
    suite = suite_from({"COMPUTE_HOME": str(tmp_path)})
    assert suite.nats_url == "nats://127.0.0.1:4222"
    assert suite.urls["node-registry"] == "http://127.0.0.1:8115"
    assert suite.urls["gpu-orchestrator"] == "http://127.0.0.1:8098"
    assert {address.host for address in suite.addresses.values()} == {"127.0.0.1"}


def test_a_given_nats_means_none_is_started() -> None:
    suite = suite_from({"NATS_URL": "nats://box:4222", "NODE_REGISTRY_PORT": "9000"})
    assert suite.nats_port is None
    assert suite.addresses["node-registry"].port == 9000


def test_bind_and_host_variables() -> None:
    suite = suite_from({"COMPUTE_BIND": "0.0.0.0", "WORK_MARSHALING_HOST": "127.0.0.2"})
    assert suite.addresses["node-registry"].host == "0.0.0.0"
    assert suite.urls["node-registry"] == "http://127.0.0.1:8115"
    assert suite.addresses["work-marshaling"].host == "127.0.0.2"


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_a_wrong_port_is_named(port: str) -> None:
    with pytest.raises(ValueError, match="NATS_PORT must be a port number"):
        suite_from({"NATS_PORT": port})


def test_children_get_loopback_urls_unless_told_otherwise(tmp_path: Path) -> None:
    environ = {"COMPUTE_HOME": str(tmp_path), "WORK_MARSHALING_URL": "http://elsewhere:1"}
    child = child_environment(suite_from(environ), environ, "box")
    assert child["NODE_REGISTRY_URL"] == "http://127.0.0.1:8115"
    assert child["WORK_MARSHALING_URL"] == "http://elsewhere:1"
    assert child["VLLM_MODEL_PATH"] == str(tmp_path / "models")
    assert child["NODE_ID"] == "box"


def test_commands_find_a_running_suite(tmp_path: Path) -> None:
    environ = {
        "COMPUTE_HOME": str(tmp_path),
        "NODE_REGISTRY_PORT": "9123",
        "NATS_URL": "nats://u:secret@h:4222",
    }
    suite = suite_from(environ)
    write_suite(suite, suite.urls, os.getpid())
    assert "secret" not in (tmp_path / "run" / "suite.json").read_text()
    assert json.loads((tmp_path / "run" / "suite.json").read_text())["pid"] == os.getpid()
    found = service_urls({"COMPUTE_HOME": str(tmp_path)})
    assert found["node-registry"] == "http://127.0.0.1:9123"
    assert service_urls({**environ, "NODE_REGISTRY_URL": "http://x"})["node-registry"] == "http://x"
