"""Models and hosts for planner tests."""

from dataclasses import replace
from typing import Any

from compute_common.units import MIB
from vllm_orchestrator.models.catalogue import lookup
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import GpuSlot, Host

# bytes of memory per card, from the placements of the reference data
RTX_4090, RTX_4080 = 26_015_170_560, 17_171_480_576
H100, H200, CARD_64 = 85_899_345_920, 151_511_121_920, 68_719_476_736


def known(name: str, **changes: Any) -> ModelProfile:
    profile = lookup(name)
    assert profile is not None
    return replace(profile, **changes)


def host(name: str, count: int, card_bytes: int, **changes: Any) -> Host:
    size = card_bytes // MIB
    gpus = tuple(GpuSlot(index, "nvidia", "card", size, size) for index in range(count))
    return replace(Host(name, gpus, 64_000, 60_000, 8), **changes)
