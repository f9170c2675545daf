"""What the suite consists of on one host: six services and their addresses, NATS, the node program."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_NATS_PORT = 4222
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - read, not bound


@dataclass(frozen=True)
class ServiceSpec:
    """One of the six: its compose name, import package and contract port."""

    name: str
    package: str
    port: int

    @property
    def variable(self) -> str:
        return self.package.upper()


SERVICES: tuple[ServiceSpec, ...] = (
    ServiceSpec("node-registry", "node_registry", 8115),
    ServiceSpec("resource-detector", "resource_detector", 8116),
    ServiceSpec("vllm-orchestrator", "vllm_orchestrator", 8117),
    ServiceSpec("work-marshaling", "work_marshaling", 8118),
    ServiceSpec("benchmark-runner", "benchmark_runner", 8119),
    ServiceSpec("gpu-orchestrator", "gpu_orchestrator", 8098),
)
SERVICE_NAMES = frozenset(spec.name for spec in SERVICES)
# What every host runs; the others run once in a cluster.
HOST_SERVICES = frozenset({"resource-detector", "gpu-orchestrator", "vllm-orchestrator"})


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        """How a person on this host reaches it."""
        host = "127.0.0.1" if self.host in EVERYWHERE else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}"


@dataclass(frozen=True)
class Suite:
    """Where everything of one `compute up` lives."""

    home: Path
    nats_url: str
    nats_port: int | None  # None: NATS_URL names a server of the user's own
    nats_host: str
    addresses: Mapping[str, Address]

    @property
    def urls(self) -> dict[str, str]:
        return {name: address.url for name, address in self.addresses.items()}

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run_records(self) -> Path:
        return self.home / "run"


def home_of(environ: Mapping[str, str]) -> Path:
    """COMPUTE_HOME, `.compute` by default, absolute."""
    return Path(environ.get("COMPUTE_HOME") or ".compute").resolve()


def suite_from(environ: Mapping[str, str]) -> Suite:
    """The suite the environment describes; ValueError when a port is not one."""
    own_nats = environ.get("NATS_URL")
    nats_port = None if own_nats else _port(environ, "NATS_PORT", DEFAULT_NATS_PORT)
    bind = environ.get("COMPUTE_BIND") or "127.0.0.1"
    nats_host = environ.get("NATS_HOST") or "127.0.0.1"
    near = "127.0.0.1" if nats_host in EVERYWHERE else nats_host
    return Suite(
        home=home_of(environ),
        nats_url=own_nats or f"nats://{near}:{nats_port}",
        nats_port=nats_port,
        nats_host=nats_host,
        addresses={
            spec.name: Address(
                environ.get(f"{spec.variable}_HOST") or bind,
                _port(environ, f"{spec.variable}_PORT", spec.port),
                tls=bool(environ.get("COMPUTE_TLS_CERT")),
            )
            for spec in SERVICES
        },
    )


def child_environment(suite: Suite, environ: Mapping[str, str], node_id: str) -> dict[str, str]:
    """What every program of the suite is started with; a variable the user set wins."""
    defaults = {
        "NATS_URL": suite.nats_url,
        "NODE_ID": node_id,
        "VLLM_MODEL_PATH": str(suite.home / "models"),
        "BENCHMARK_OUTPUT_DIR": str(suite.home / "benchmarks"),
        "PYTHONUNBUFFERED": "1",
        **{f"{spec.variable}_URL": suite.addresses[spec.name].url for spec in SERVICES},
    }
    return {**defaults, **environ, "COMPUTE_HOME": str(suite.home)}


def service_urls(environ: Mapping[str, str]) -> dict[str, str]:
    """Where the services answer: `<SERVICE>_URL`, else what the running suite wrote down, else the ports."""
    urls = suite_from(environ).urls | running_suite(home_of(environ)).get("urls", {})
    return {spec.name: environ.get(f"{spec.variable}_URL") or urls[spec.name] for spec in SERVICES}


def running_suite(home: Path) -> dict[str, Any]:
    """What `compute up` wrote down of itself; empty where none runs."""
    written = home / "run" / "suite.json"
    return dict(json.loads(written.read_text())) if written.exists() else {}


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"{name} must be a port number, not {text!r}")
    return int(text)


def uvicorn_argv(package: str, host: str, port: int) -> list[str]:
    """The command line of one service: its own process, one worker."""
    return [
        *(sys.executable, "-m", "compute_common.shell.serve", package, "--host", host, "--port", str(port)),
    ]


def write_suite(suite: Suite, urls: Mapping[str, str], pid: int) -> None:
    """Let other commands find this suite."""
    suite.run_records.mkdir(parents=True, exist_ok=True)
    path = suite.run_records / "suite.json"
    draft = path.with_suffix(f".{os.getpid()}")
    listens = {"nats_host": suite.nats_host, "nats_port": suite.nats_port}  # null: not a server of ours
    nats = {"nats_url": _without_login(suite.nats_url), **listens}
    draft.write_text(json.dumps({"pid": pid, "urls": dict(urls), **nats}))
    draft.replace(path)


def _without_login(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
