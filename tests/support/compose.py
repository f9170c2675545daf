"""The compose file, brought up for real with its images built from this tree."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from compute_cli.suite import SERVICES
from tests.support.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
PROJECT = "computetest"


def require_docker() -> None:
    """Skip, with the reason, where there is no Docker Engine with Compose and the base image."""
    if shutil.which("docker") is None or compose_command() is None:
        pytest.skip("no docker and docker-compose here; `make test-deps` installs them")
    if _run(["docker", "info"]).returncode != 0:
        pytest.skip("no Docker Engine answers; `make test-deps` starts one where it can")
    if _run(["docker", "image", "inspect", "python:3.11-slim-bookworm"]).returncode != 0:
        pytest.skip("the image python:3.11-slim-bookworm is not here: docker pull it")


def compose_command() -> list[str] | None:
    """`docker compose`, or the older `docker-compose`."""
    if _run(["docker", "compose", "version"]).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Compose:
    """One project with host ports of its own."""

    def __init__(self, models: Path) -> None:
        self.files = ["docker-compose.yml"]
        ports = free_ports(len(SERVICES) + 1)
        self.nats_port = ports.pop()
        self.ports = {spec.name: port for spec, port in zip(SERVICES, ports, strict=True)}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("NATS_URL", "NODE_ID")},
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "NATS_PORT": str(self.nats_port),
            "VLLM_MODEL_HOST_PATH": str(models),
            **{f"{spec.variable}_PORT": str(self.ports[spec.name]) for spec in SERVICES},
        }

    def __call__(self, *arguments: str, seconds: float = 900) -> "subprocess.CompletedProcess[str]":
        """Run one compose command of the project; AssertionError with its output when it fails."""
        command = compose_command()
        assert command is not None
        done = subprocess.run(
            [
                *command,
                "-p",
                PROJECT,
                *(word for file in self.files for word in ("-f", file)),
                "--profile",
                "compute",
                *arguments,
            ],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"


def state_of(container: str) -> str:
    """`healthy`, `starting`, …; `running` where the container has no check."""
    form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
    return _run(["docker", "inspect", "-f", form, container]).stdout.strip()


def _run(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
