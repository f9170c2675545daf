"""The one shape of container that engines run in: what the orchestrator asks for, all that the proxy grants.

A container is described by an `EngineContainer`; `create_body` is Docker's create document for it and
`container_of` reads one back. Privileges are those that vLLM's documentation asks for on each platform,
with a private `/dev/shm` in place of the host's IPC; of host namespaces only the network, over several hosts.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from compute_common.units import MIB

MARK, OWNER, NODE = "compute.engine", "compute.owner", "compute.node"
INSTANCE, EPOCH, PORT, TEMPLATE = "compute.instance", "compute.epoch", "compute.port", "compute.template"
MARKED = "1"
MODELS = "/models"  # inside
BRIDGE, HOST = "bridge", "host"
LOGS = {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}}
NO_NEW_PRIVILEGES, NO_SECCOMP = "no-new-privileges", "seccomp=unconfined"


class Template(StrEnum):
    """The platform whose privileges a container gets."""

    LLAMA = "llama"
    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"


@dataclass(frozen=True)
class EngineContainer:
    """`words` follow the image's entry point; `models` is a folder of the host.

    `network` is `bridge`, `host` or a network's name; on `bridge` alone the port is published, at `bind`.
    """

    template: Template
    image: str
    owner: str
    node_id: str
    instance_name: str
    epoch: int
    port: int
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]
    models: str
    network: str
    bind: str

    @property
    def name(self) -> str:
        return container_name(self.owner, self.instance_name)


def container_name(owner: str, instance_name: str) -> str:
    """One per instance and orchestrator: none is made twice. A DNS label, by which engines are reached."""
    digest = hashlib.sha256(f"{owner}/{instance_name}".encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", instance_name.lower())[:40].strip("-")
    return f"compute-{readable or 'engine'}-{digest}"


def owner_digest(owner: str) -> str:
    """An orchestrator's mark as a label: says nothing of its folders."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def create_body(container: EngineContainer) -> dict[str, Any]:
    """Docker's `POST /containers/create` document."""
    port = f"{container.port}/tcp"
    published = container.network == BRIDGE
    return {
        "Image": container.image,
        "Cmd": list(container.words),
        "Env": [f"{name}={value}" for name, value in container.environment],
        "Labels": _labels(container),
        "ExposedPorts": {port: {}} if published else {},
        "HostConfig": {
            "NetworkMode": container.network,
            "PortBindings": {port: [_binding(container)]} if published else {},
            "Mounts": [{"Type": "bind", "Source": container.models, "Target": MODELS, "ReadOnly": True}],
            "RestartPolicy": {"Name": "no"},
            "LogConfig": LOGS,
            "IpcMode": "private",
            "CapDrop": ["ALL"],
            **_privileges(container),
        },
    }


def container_of(body: Any) -> EngineContainer:
    """What a create document asks for. ValueError where it is not what `create_body` makes of that."""
    try:
        container = _read(body)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"the document is not that of an engine ({type(error).__name__}: {error})"
        ) from error
    where = first_difference(create_body(container), body)
    if where:
        raise ValueError(f"the template '{container.template}' has another {where}")
    return container


def first_difference(expected: Any, given: Any, where: str = "") -> str:
    """Where two JSON values differ, as `HostConfig.Privileged`; empty when nowhere. True is not 1."""
    if isinstance(expected, dict) and isinstance(given, dict):
        for key in (*expected, *(key for key in given if key not in expected)):
            path = f"{where}.{key}" if where else str(key)
            if (key in expected) is not (key in given):
                return path
            if found := first_difference(expected[key], given[key], path):
                return found
        return ""
    if isinstance(expected, list) and isinstance(given, list) and len(expected) == len(given):
        pairs = enumerate(zip(expected, given, strict=True))
        return next((found for at, pair in pairs if (found := first_difference(*pair, f"{where}[{at}]"))), "")
    return "" if type(expected) is type(given) and expected == given else where or "document"


def _labels(container: EngineContainer) -> dict[str, str]:
    return {
        MARK: MARKED,
        OWNER: container.owner,
        NODE: container.node_id,
        INSTANCE: container.instance_name,
        EPOCH: str(container.epoch),
        PORT: str(container.port),
        TEMPLATE: container.template.value,
    }


def _binding(container: EngineContainer) -> dict[str, str]:
    return {"HostIp": container.bind, "HostPort": str(container.port)}


def _privileges(container: EngineContainer) -> dict[str, Any]:
    """Exactly what the platform needs beside an ordinary container's nothing."""
    match container.template:
        case Template.LLAMA:
            return {"SecurityOpt": [NO_NEW_PRIVILEGES]}
        case Template.CPU:
            return {
                "SecurityOpt": [NO_NEW_PRIVILEGES, NO_SECCOMP],
                "CapAdd": ["SYS_NICE"],
                "ShmSize": 4096 * MIB,
            }
        case Template.CUDA:
            device = {"Driver": "nvidia", "DeviceIDs": list(container.devices), "Capabilities": [["gpu"]]}
            return {
                "SecurityOpt": [NO_NEW_PRIVILEGES],
                "DeviceRequests": [device],
                "ShmSize": 16_384 * MIB,
            }
        case Template.ROCM:
            return {
                "SecurityOpt": [NO_NEW_PRIVILEGES, NO_SECCOMP],
                "CapAdd": ["SYS_PTRACE"],
                "GroupAdd": ["video"],
                "Devices": [_device("/dev/kfd"), _device("/dev/dri")],
                "ShmSize": 16_384 * MIB,
            }


def _device(path: str) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}


def _read(body: Mapping[str, Any]) -> EngineContainer:
    labels, host = body["Labels"], body["HostConfig"]
    requests = host.get("DeviceRequests")
    bindings = list(host["PortBindings"].values())
    return EngineContainer(
        template=Template(labels[TEMPLATE]),
        image=_text(body["Image"]),
        owner=_text(labels[OWNER]),
        node_id=_text(labels[NODE]),
        instance_name=_text(labels[INSTANCE]),
        epoch=int(labels[EPOCH]),
        port=int(labels[PORT]),
        words=tuple(_text(word) for word in body["Cmd"]),
        environment=tuple(_variable(_text(line)) for line in body["Env"]),
        devices=tuple(_text(device) for device in requests[0]["DeviceIDs"]) if requests else (),
        models=_text(host["Mounts"][0]["Source"]),
        network=_text(host["NetworkMode"]),
        bind=_text(bindings[0][0]["HostIp"]) if bindings else "",
    )


def _variable(line: str) -> tuple[str, str]:
    name, mark, value = line.partition("=")
    if not mark:
        raise ValueError("a variable without a value takes the daemon's own")
    return name, value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    return value
