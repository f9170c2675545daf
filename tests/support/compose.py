"""The compose file, brought up for real with its images built from this tree."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_cli.suite import SERVICES
from tests.support.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
PROJECT = "computetest"
_OURS = {"NATS_URL", "NODE_ID", "COMPUTE_HOME", "COMPUTE_BIND"}


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
    """The project, with host ports of its own. Its containers' names are fixed: one at a time."""

    def __init__(self, models: Path) -> None:
        self.files = ["docker-compose.yml"]
        self.profiles = ["compute"]
        self.bind = "127.0.0.1"
        names = [spec.name for spec in SERVICES]
        nats, prometheus, *ports = free_ports(len(names) + 2)
        self.ports = {"nats": nats, "prometheus": prometheus, **dict(zip(names, ports, strict=True))}
        self._inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        self.environment = {"VLLM_MODEL_HOST_PATH": str(models)}

    def __call__(self, *arguments: str, seconds: float = 900) -> "subprocess.CompletedProcess[str]":
        """Run one compose command of the project; AssertionError with its output when it fails."""
        command = compose_command()
        assert command is not None
        options = [word for file in self.files for word in ("-f", file)]
        options += [word for profile in self.profiles for word in ("--profile", profile)]
        done = subprocess.run(
            [*command, "-p", PROJECT, *options, *arguments],
            cwd=ROOT,
            env={**self._inherited, **self._variables(), **self.environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def url(self, service: str) -> str:
        return f"http://{self.bind}:{self.ports[service]}"

    @property
    def nats_url(self) -> str:
        return f"nats://{self.bind}:{self.ports['nats']}"

    def request(self, method: str, service: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(method, self.url(service) + path, json=body, timeout=60)

    def get(self, service: str, path: str) -> Any:
        """The JSON of a GET that succeeds."""
        answer = self.request("GET", service, path)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, service: str, path: str, body: Any) -> Any:
        """The JSON of a POST that succeeds."""
        answer = self.request("POST", service, path, body)
        assert answer.is_success, answer.text
        return answer.json()

    def health(self, service: str) -> Any:
        """What /healthz says once it says `healthy`, else None."""
        try:
            found = httpx.get(self.url(service) + "/healthz", timeout=10).json()
        except httpx.HTTPError:
            return None
        return found if found["status"] == "healthy" else None

    def instance_ready(self, name: str) -> bool:
        """Whether the instance is; fails with its last error."""
        found = self.get("vllm-orchestrator", f"/api/v1/vllm/instances/{name}")
        assert found["status"] != "failed", found["last_error"]
        return bool(found["status"] == "ready")

    def left(self, kind: str) -> str:
        """Names of what Docker still has of the project: kind is `container`, `network` or `volume`."""
        command = ["docker", kind, "ls", *(["-a"] if kind == "container" else [])]
        form = "{{.Names}}" if kind == "container" else "{{.Name}}"
        return _run(
            [*command, "--filter", f"label=com.docker.compose.project={PROJECT}", "--format", form]
        ).stdout

    def _variables(self) -> dict[str, str]:
        return {
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "COMPUTE_BIND": self.bind,
            "NATS_PORT": str(self.ports["nats"]),
            "PROMETHEUS_PORT": str(self.ports["prometheus"]),
            **{f"{spec.variable}_PORT": str(self.ports[spec.name]) for spec in SERVICES},
        }


@contextmanager
def engine_to_ourselves() -> Iterator[None]:
    """Waits for the Compose tests of another process: container names are fixed."""
    with (Path(tempfile.gettempdir()) / f"{PROJECT}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def bridge_address() -> str:
    """Where containers reach this host, which is what `host.docker.internal:host-gateway` means."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return _run(["docker", "network", "inspect", "bridge", "-f", form]).stdout.strip()


def state_of(container: str) -> str:
    """`healthy`, `starting`, …; `running` where the container has no check."""
    form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
    return _run(["docker", "inspect", "-f", form, container]).stdout.strip()


def _run(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
