"""On no fit: what would fit."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.gpu import SHORTEST_CONTEXT, plan_gpu
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.memory import counted_parameters
from vllm_orchestrator.planning.result import Plan, Wish, to_mib

CARDS = (("24 GB", 24_564), ("48 GB", 46_068), ("80 GB", 81_559), ("141 GB", 143_771))
MOST_CARDS = 8
GGUF_BYTES_PER_PARAMETER = 0.6  # a Q4_K_M file
FP8_FROM = 8.9
LAYOUT, SHARE = frozenset({"tp", "pp", "strategy"}), frozenset({"gpu_memory_utilization"})
CARDS_NAMED, HOST_NAMED = frozenset({"gpu_indices"}), frozenset({"node_id"})
DEMANDS = (LAYOUT, SHARE, CARDS_NAMED, HOST_NAMED)  # the one easiest to do without first
_FOUR_BITS = ("awq", "gptq", "awq_marlin", "gptq_marlin")


def what_would_fit(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> tuple[dict[str, Any], ...]:
    """Less asked for, where that alone is in the way; else what the hosts could hold instead.

    That is other formats and lengths first, then hardware that would do, then a GGUF in RAM.
    """
    nearest = _asking_less(profile, hosts, wish)
    if nearest:
        return (nearest,)
    found: list[dict[str, Any]] = []
    free = replace(wish, tp=None, pp=None, strategy=None)
    for change, other in _changes(profile, hosts, wish, free):
        found.extend(_described(change, profile, hosts, other))
    found.extend(_hardware(profile, replace(free, node_id=None)))
    found.extend(_gguf(profile, hosts))
    return tuple(found)


def _asking_less(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> dict[str, Any] | None:
    """The same model without the one demand that rules every place out, else without any of them."""
    made = [demand for demand in DEMANDS if any(getattr(wish, field) is not None for field in demand)]
    every = frozenset[str]().union(*made)
    for dropped in [*made, every] if len(made) > 1 else made:
        plan = plan_gpu(profile, hosts, _without(wish, dropped))
        if isinstance(plan, Plan):
            return {"change": _instead(plan, wish, dropped), **_told(plan)}
    return None


def _without(wish: Wish, dropped: frozenset[str]) -> Wish:
    nothing: dict[str, Any] = dict.fromkeys(dropped)
    return replace(wish, **nothing)


def _instead(plan: Plan, wish: Wish, dropped: frozenset[str]) -> str:
    """What to ask for in place of the demands that were dropped."""
    words = []
    if dropped >= LAYOUT:
        words.append(f"tensor_parallel_size {plan.tp} and pipeline_parallel_size {plan.pp}")
    if dropped >= SHARE and wish.gpu_memory_utilization is not None:
        words.append("without gpu_memory_utilization")
    if dropped >= CARDS_NAMED and wish.gpu_indices is not None:
        words.append(f"gpu_indices {sorted(plan.places[0].gpu_indices)}")
    if dropped >= HOST_NAMED and wish.node_id is not None:
        words.append(f"node_id {plan.places[0].node_id}")
    return ", ".join(words)


def _changes(
    profile: ModelProfile, hosts: Sequence[Host], wish: Wish, free: Wish
) -> Iterator[tuple[str, Wish]]:
    """Requests that ask for less, the least loss first; formats as the hosts' detectors recommend them."""
    if profile.quantization is None:
        if _has_kernels(hosts, ("fp8",), FP8_FROM):
            yield "8-bit weights (an FP8 variant)", replace(free, quantization="fp8")
        if _has_kernels(hosts, _FOUR_BITS, None):
            yield "4-bit weights (an AWQ or GPTQ variant)", replace(free, quantization="awq")
    if wish.max_model_len is not None:
        yield "a shorter context", replace(wish, max_model_len=None)
    if wish.kv_cache_dtype is None and _has_kernels(hosts, ("fp8",), FP8_FROM):
        yield "a KV cache in fp8", replace(wish, kv_cache_dtype="fp8")


def _has_kernels(hosts: Sequence[Host], formats: Sequence[str], capability: float | None) -> bool:
    """Whether some host recommends one of the formats; by its cards where its detector said nothing."""
    for host in hosts:
        if host.advice.quantization:
            if set(formats) & set(host.advice.quantization):
                return True
        elif capability is None or any((gpu.capability or 0.0) >= capability for gpu in host.gpus):
            return True
    return False


def _described(change: str, profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> list[dict[str, Any]]:
    plan = plan_gpu(profile, hosts, wish)
    if not isinstance(plan, Plan):
        return []
    return [{"change": change, **_told(plan), "explanation": plan.explanation}]


def _told(plan: Plan) -> dict[str, Any]:
    return {
        "strategy": plan.strategy.value,
        "tensor_parallel_size": plan.tp,
        "pipeline_parallel_size": plan.pp,
        "max_model_len": plan.max_model_len,
    }


def _hardware(profile: ModelProfile, wish: Wish) -> list[dict[str, Any]]:
    """For each common card the fewest of one host that carry the model."""
    found = []
    shortest = replace(wish, max_model_len=wish.max_model_len or min(profile.max_len, SHORTEST_CONTEXT))
    for label, total in CARDS:
        least = plan_gpu(profile, [_host_of(label, total, MOST_CARDS)], shortest)
        if not isinstance(least, Plan):
            continue
        count = least.tp * least.pp
        plan = plan_gpu(profile, [_host_of(label, total, count)], wish)
        if isinstance(plan, Plan):
            found.append({"change": f"a host with {count} x {label} GPU", **_told(plan)})
    return found


def _host_of(label: str, total: int, count: int) -> Host:
    slots = (GpuSlot(index, "nvidia", f"{label} GPU", total, total) for index in range(count))
    return Host("one-host", tuple(slots))


def _gguf(profile: ModelProfile, hosts: Sequence[Host]) -> list[dict[str, Any]]:
    parameters = profile.parameters or counted_parameters(profile)
    need = to_mib(parameters * GGUF_BYTES_PER_PARAMETER)
    best = max(hosts, key=lambda host: host.ram_available_mb, default=None)
    if best is None or need > best.ram_available_mb:
        return []
    return [{"change": f"a 4-bit GGUF under VLLM_MODEL_PATH: about {need} MiB of RAM on {best.node_id}"}]
