"""Which containers may be made: pure, and `None` or the reason why not."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compute_common.engine_containers import BRIDGE, HOST, EngineContainer, Template
from compute_common.ids import is_identifier

MAX_WORDS, MAX_VARIABLES, MAX_LENGTH = 256, 64, 4096
# What engines are told. Not NVIDIA_*, by which its hook grants cards; not LD_*, which that hook might obey.
VARIABLES = re.compile(
    r"(?:(?:VLLM|NCCL|GLOO|OMP|TORCH|ROCR|HSA)_[A-Z0-9_]{1,60}|HIP_VISIBLE_DEVICES|DO_NOT_TRACK"
    r"|HF_HUB_OFFLINE|TRANSFORMERS_OFFLINE|PYTORCH_CUDA_ALLOC_CONF|PYTORCH_HIP_ALLOC_CONF)\Z"
)
_DEVICE = re.compile(r"(?:\d{1,3}|(?:GPU|MIG)-[0-9A-Fa-f/-]{1,80})\Z")
_OWNER = re.compile(r"[0-9a-f]{16}\Z")


@dataclass(frozen=True)
class Grants:
    """What this host's person allows."""

    images: Mapping[Template, str]
    models: str
    bind: str
    ports: range
    network: str = ""
    host_network: bool = False

    def refusal(self, container: EngineContainer, name: str) -> str | None:
        """Why this container is not made under this name; None when it is."""
        checks: tuple[Callable[[EngineContainer], str | None], ...] = (
            self._image, self._models, self._network, self._labels, self._devices, _words, _variables,
        )  # fmt: skip
        if name != container.name:
            return "the name is not that of the instance"
        return next((reason for check in checks if (reason := check(container))), None)

    def _image(self, container: EngineContainer) -> str | None:
        allowed = self.images[container.template]
        return None if container.image == allowed else f"the image of '{container.template}' is {allowed}"

    def _models(self, container: EngineContainer) -> str | None:
        return None if container.models == self.models else "only the folder of models is mounted"

    def _network(self, container: EngineContainer) -> str | None:
        if container.network == HOST:
            if container.template is Template.LLAMA:
                return "llama.cpp runs on one host and needs no network of the host"
            if not self.host_network:
                return "the host's network needs COMPUTE_ALLOW_HOST_NETWORK=1"
            return self._port(container)
        if container.network != (self.network or BRIDGE):
            return f"engines join the network '{self.network or BRIDGE}'"
        if container.network == BRIDGE and container.bind != self.bind:
            return f"engines are published at ENGINE_BIND {self.bind}"
        return self._port(container)

    def _port(self, container: EngineContainer) -> str | None:
        headless = container.network == HOST and container.port == 0
        return None if headless or container.port in self.ports else "the port is not one of ENGINE_PORTS"

    def _labels(self, container: EngineContainer) -> str | None:
        known = is_identifier(container.node_id) and is_identifier(container.instance_name)
        whole = _OWNER.match(container.owner) and 0 <= container.epoch < 1 << 53
        return None if known and whole else "the labels are not identifiers"

    def _devices(self, container: EngineContainer) -> str | None:
        if container.template is not Template.CUDA:
            return None
        named = container.devices and all(_DEVICE.match(device) for device in container.devices)
        return None if named and len(container.devices) <= 64 else "cards are named one by one"


def _words(container: EngineContainer) -> str | None:
    good = len(container.words) <= MAX_WORDS and all(map(_plain, container.words))
    return None if good else "the command has too many, too long or unprintable words"


def _variables(container: EngineContainer) -> str | None:
    if len(container.environment) > MAX_VARIABLES:
        return "the environment has too many variables"
    for name, value in container.environment:
        if not VARIABLES.match(name):
            return f"the variable {name[:80]!r} is not one that engines are told"
        if not _plain(value):
            return f"the value of {name} is too long or unprintable"
    return None


def _plain(text: str) -> bool:
    return len(text) <= MAX_LENGTH and text.isprintable()
