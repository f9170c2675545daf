"""Prints env.shared.example from the settings classes: `make env`."""

from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

import benchmark_runner.settings
import compute_docker_proxy.settings
import compute_node.settings
import gpu_orchestrator.settings
import node_registry.settings
import resource_detector.settings
import vllm_orchestrator.settings
import work_marshaling.settings
from compute_cli.suite import DEFAULT_NATS_PORT, SERVICES
from compute_common.shell import ServiceSettings

SECTIONS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("Every program", ServiceSettings),
    ("Node registry", node_registry.settings.Settings),
    ("Resource detector", resource_detector.settings.Settings),
    ("vLLM orchestrator", vllm_orchestrator.settings.Settings),
    ("Work marshaling", work_marshaling.settings.Settings),
    ("Benchmark runner", benchmark_runner.settings.Settings),
    ("GPU orchestrator", gpu_orchestrator.settings.Settings),
    ("Docker proxy", compute_docker_proxy.settings.ProxySettings),
    ("Node program", compute_node.settings.NodeSettings),
)
# What the image sets: the specification's values, where a process outside containers has others.
IN_CONTAINERS = {
    "NATS_URL": "nats://nats:4222",
    "NATS_SYS_USER": "sys",
    "NATS_SYS_PASSWORD": "compute-sys",
    "COMPUTE_HOME": "/var/lib/compute",
    "COMPUTE_ALLOW_NO_KEY": "1",
    "VLLM_MODEL_PATH": "/models",
    "VLLM_MODEL_HOST_PATH": "/models",
    "ENGINE_BIND": "0.0.0.0",  # noqa: S104 - inside its container
    "ENGINE_ADVERTISE_HOST": "vllm-orchestrator",
}
HEADER = """\
# Every variable of the suite, with its default inside containers and one line of meaning.
# Written by `make env` from the settings classes; an empty value means unset.
# Use it with: docker compose --env-file env.shared --profile compute up -d
"""
STANDALONE = """\
# --- Standalone mode: a process outside Compose joins by host.docker.internal or a host name
# NODE_REGISTRY_URL=http://host.docker.internal:8115
# VLLM_ORCHESTRATOR_URL=http://host.docker.internal:8117
# NATS_URL=nats://host.docker.internal:4222
"""


def main() -> None:
    """Print the file."""
    print(render(), end="")


def render() -> str:
    """The whole text of env.shared.example."""
    return "\n".join([HEADER, *sections(), _addresses(), STANDALONE])


def sections() -> Iterator[str]:
    """One block per program, each variable once."""
    seen: set[str] = set()
    for title, settings in SECTIONS:
        lines = [f"# --- {title}"]
        for name, field in variables(settings):
            if name not in seen:
                seen.add(name)
                value = IN_CONTAINERS.get(name, _text(field.default))
                lines += [f"# {field.description}", f"{name}={value}"]
        yield "\n".join(lines) + "\n"


def variables(settings: type[BaseSettings]) -> Iterator[tuple[str, Any]]:
    """The canonical environment name of each field, and the field."""
    for name, field in settings.model_fields.items():
        alias: Any = field.validation_alias
        yield (alias.choices[0] if alias is not None else name.upper()), field


def _addresses() -> str:
    lines = ["# --- Addresses, for people, the CLI and Compose (services find each other over NATS)"]
    lines += ["# Where published ports listen on this host", "COMPUTE_BIND=127.0.0.1"]
    lines += ["# Host port of NATS", f"NATS_PORT={DEFAULT_NATS_PORT}"]
    lines += [
        "# Where the embedded NATS of `compute up` listens (Compose: COMPUTE_BIND)",
        "NATS_HOST=127.0.0.1",
        "# 1: beyond loopback it wants no login either; for a network you trust wholly",
        "NATS_ALLOW_NO_LOGIN=",
    ]
    lines += ["# Authorities (PEM) by which the CLI verifies services that speak TLS", "COMPUTE_TLS_CA="]
    lines += ["# Where Prometheus and Grafana listen on this host (no login), and their ports"]
    lines += ["MONITORING_BIND=127.0.0.1", "PROMETHEUS_PORT=9090", "GRAFANA_PORT=3000"]
    lines += [
        "# Where spans go, e.g. http://collector:4318; empty = nowhere",
        "OTEL_EXPORTER_OTLP_ENDPOINT=",
    ]
    for spec in SERVICES:
        lines += [f"# {spec.name}: address, and the port published on this host"]
        lines += [f"{spec.variable}_URL=http://{spec.name}:{spec.port}", f"{spec.variable}_PORT={spec.port}"]
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
