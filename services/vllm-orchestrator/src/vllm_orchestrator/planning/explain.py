"""A found layout as a plan in words and numbers, and what is short where none was found."""

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

from compute_common.enums import EngineKind
from compute_common.units import MIB
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.attempt import MARGIN_MB, Attempt, claim_mb, need_mb, workload_for
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.memory import RankMemory, fullest_rank
from vllm_orchestrator.planning.result import NoFit, Place, Plan, Rejected, Wish, to_mib
from vllm_orchestrator.planning.speed import expected_speed, measured_speed
from vllm_orchestrator.planning.stages import Group

SHARED_CACHE_TOKENS = 65_536  # the KV cache a right-sized instance is given, at least one full request
WHOLE_CARD_FROM = 0.45  # an instance that needs more of a card than this is given the card
NO_BFLOAT16_BELOW = 8.0
_ANY_CARD = GpuSlot(0, "nvidia", "GPU", 0, 0)


def as_plan(profile: ModelProfile, wish: Wish, attempt: Attempt) -> Plan:
    """The attempt with its share of each card, what it is started with, and the reasons."""
    layout, work = attempt.layout, attempt.workload
    utilization = _right_size(attempt, wish)
    budgets = [floor(utilization * group[0].total_mb) for _host, group in layout.stages]
    tokens = _kv_tokens(attempt, budgets)
    memory, tight = attempt.memory, attempt.tightest
    dtype, settings = _settings(profile, wish, layout.groups)
    places = tuple(_place(host, cards, utilization) for host, cards in layout.groups)
    speed = _speed(profile, attempt)
    return Plan(
        profile=profile,
        engine=EngineKind.VLLM,
        strategy=layout.shape.strategy,
        tp=layout.shape.tp,
        pp=layout.shape.pp,
        places=places,
        memory=memory,
        kv_cache_bytes=max(memory.request, memory.kv_cache(budgets[tight] * MIB)),
        kv_cache_tokens=tokens,
        max_model_len=work.max_model_len,
        max_num_seqs=work.max_num_seqs,
        max_batched_tokens=work.max_batched_tokens,
        utilization=utilization,
        threads=layout.groups[0][0].threads,
        explanation=" ".join([_words(profile, attempt, places[0].reserved_mb, tokens), *settings, speed[1]]),
        wish=wish,
        vendor=layout.gpus[0].vendor,
        card=layout.gpus[0].name,
        dtype=dtype,
        expert_parallel=layout.shape.expert_parallel,
        stage_layers=() if attempt.equal else attempt.layers,
        environment=_environment(layout.groups),
        tokens_per_s=speed[0],
    )


def as_alternative(profile: ModelProfile, attempt: Attempt) -> dict[str, Any]:
    """Another layout that fits, for the ranked list of an answer."""
    layout = attempt.layout
    return {
        "change": layout.label,
        "strategy": layout.shape.strategy.value,
        "tensor_parallel_size": layout.shape.tp,
        "pipeline_parallel_size": layout.shape.pp,
        "max_model_len": attempt.workload.max_model_len,
        "kv_cache_tokens": _kv_tokens(attempt, attempt.budgets_mb),
        "spare_mb_per_gpu": -attempt.short_mb,
        "expected_tokens_per_s": _speed(profile, attempt)[0],
        "placement": [
            {"node_id": host.node_id, "gpu_indices": [gpu.index for gpu in cards]}
            for host, cards in layout.groups
        ],
    }


def no_fit(
    profile: ModelProfile,
    wish: Wish,
    hosts: Sequence[Host],
    closest: Attempt | None,
    rejected: tuple[Rejected, ...],
) -> NoFit:
    """The refusal: the nearest layout and its shortfall, or the rules that left none."""
    length = wish.max_model_len or min(profile.max_len, 4096)
    whole = fullest_rank(profile, 1, 1, workload_for(profile, wish, _ANY_CARD, length))
    total = to_mib(whole.least)
    if not hosts:
        reason = (
            f"{profile.name} needs about {total} MiB of GPU memory ({to_mib(whole.weights)} MiB of it"
            " weights); none of the hosts looked at has a usable GPU"
        )
        return NoFit(reason, {"required_total_mb": total, "available_total_mb": 0, "short_mb": total})
    if closest is None:
        why = "; ".join(f"{each.layout}: {each.reason}" for each in rejected[:4])
        why = why or "no host has as many GPUs of one kind as were asked for"
        text = f"no layout of {profile.name} is possible: {why}"
        return NoFit(text, {"required_total_mb": total}, (), rejected)
    return NoFit(_shortfall_words(profile, closest), _shortfall(closest), (), rejected)


def why_short(attempt: Attempt) -> str:
    """Why a layout that the model allows is refused."""
    if attempt.unfree_mb:
        return _unfree_words(attempt)
    return (
        f"needs {to_mib(attempt.memory.least)} MiB per GPU and a margin of {MARGIN_MB} at a context of"
        f" {attempt.workload.max_model_len}, {attempt.usable_mb} usable: {attempt.short_mb} MiB short"
    )


def _unfree_words(attempt: Attempt) -> str:
    return (
        f"the share of {attempt.utilization:g} that was asked for is not free on every GPU:"
        f" {attempt.unfree_mb} MiB short; without gpu_memory_utilization the share is what is free"
    )


def _shortfall_words(profile: ModelProfile, best: Attempt) -> str:
    memory = best.memory
    if best.unfree_mb:
        return f"{profile.name} does not fit: on {best.layout.label} {_unfree_words(best)}"
    return (
        f"{profile.name} does not fit: the nearest is {best.layout.label}, which needs {need_mb(memory)} MiB"
        f" per GPU (weights {to_mib(memory.weights)}, one request of {best.workload.max_model_len} tokens"
        f" {to_mib(memory.request)}, the rest {to_mib(memory.fixed - memory.weights) + MARGIN_MB}) of"
        f" {best.usable_mb} MiB usable: {best.short_mb} MiB per GPU short"
    )


def _shortfall(best: Attempt) -> dict[str, Any]:
    return {
        "required_mb_per_gpu": need_mb(best.memory),
        "usable_mb_per_gpu": best.usable_mb,
        "short_mb_per_gpu": best.short_mb,
        "gpus": [
            {
                "node_id": host.node_id,
                "gpu_index": gpu.index,
                "total_mb": gpu.total_mb,
                "free_mb": gpu.free_mb,
            }
            for host, group in best.layout.groups
            for gpu in group
        ],
    }


def _right_size(attempt: Attempt, wish: Wish) -> float:
    """gpu_memory_utilization: what is useful; all that is usable when that is much. In ten-thousandths."""
    if wish.gpu_memory_utilization is not None:
        return wish.gpu_memory_utilization
    most = attempt.utilization
    smallest = min(gpu.total_mb for gpu in attempt.layout.gpus)
    useful = max(_useful_mb(rank) for rank in attempt.ranks)
    if useful <= WHOLE_CARD_FROM * smallest:
        most = min(most, useful / smallest)
        return min(ceil(most * 1e4) / 1e4, floor(attempt.utilization * 1e4) / 1e4)
    return floor(most * 1e4) / 1e4


def _useful_mb(rank: RankMemory) -> int:
    per_token = rank.request / max(1, rank.tokens_per_request)
    return to_mib(rank.fixed + max(rank.request, per_token * SHARED_CACHE_TOKENS)) + MARGIN_MB


def _kv_tokens(attempt: Attempt, budgets: Sequence[int]) -> int:
    """Tokens of KV cache: of the stage that has fewest."""
    found = []
    for rank, budget in zip(attempt.ranks, budgets, strict=True):
        cache = max(rank.request, rank.kv_cache(budget * MIB))
        found.append(cache * rank.tokens_per_request // max(1, rank.request))
    return min(found)


def _place(host: Host, cards: Sequence[GpuSlot], utilization: float) -> Place:
    devices = tuple(gpu.device for gpu in cards) if any(gpu.device for gpu in cards) else ()
    indices = tuple(gpu.index for gpu in cards)
    return Place(host.node_id, indices, claim_mb(utilization, cards), host.address, devices)


def _settings(profile: ModelProfile, wish: Wish, groups: Sequence[Group]) -> tuple[str | None, list[str]]:
    """The dtype to start with where it is not the model's own, and what of the advice was followed."""
    words = []
    dtype = None
    capabilities = [gpu.capability for _host, cards in groups for gpu in cards if gpu.capability is not None]
    advised = next((host.advice.dtype for host, _cards in groups if host.advice.dtype), None)
    if wish.dtype is None and profile.dtype == "bfloat16":
        if capabilities and min(capabilities) < NO_BFLOAT16_BELOW:
            dtype = "float16"
            words.append(f"float16, as compute capability {min(capabilities):g} has no bfloat16.")
        elif advised == "float16":
            dtype = "float16"
            words.append(f"float16, as the detector of {groups[0][0].node_id} recommends.")
    if wish.kv_cache_dtype and wish.kv_advised:
        words.append(f"KV cache in {wish.kv_cache_dtype}, as the detector recommends.")
    environment = _environment(groups)
    if environment:
        named = ", ".join(f"{key}={value}" for key, value in environment)
        words.append(f"{named}, as the detector recommends.")
    return dtype, words


def _environment(groups: Sequence[Group]) -> tuple[tuple[str, str], ...]:
    return groups[0][0].advice.env


def _speed(profile: ModelProfile, attempt: Attempt) -> tuple[float | None, str]:
    hosts = [host for host, _cards in attempt.layout.groups]
    seen = [measured_speed(profile, host) for host in hosts]
    if len(hosts) == 1 and seen[0] is not None:
        return seen[0], f"{seen[0]:g} output tokens/s were measured here."
    expected = expected_speed(profile, attempt.layout)
    if expected is None:
        return None, ""
    return expected, f"About {expected:g} tokens/s for one request, by memory bandwidth."


def _words(profile: ModelProfile, attempt: Attempt, reserved: int, tokens: int) -> str:
    layout, memory = attempt.layout, attempt.memory
    total = max(gpu.total_mb for gpu in layout.gpus)
    text = (
        f"{layout.shape.strategy.value}: {layout.label}. Per GPU {to_mib(memory.weights)} MiB weights,"
        f" {to_mib(memory.activations)} activations, {to_mib(memory.overhead)} overhead; {reserved} MiB"
        f" reserved of {total}, which leaves a KV cache of {tokens} tokens."
    )
    if attempt.workload.max_model_len < profile.max_len:
        text += f" Context {attempt.workload.max_model_len} instead of the model's {profile.max_len}."
    if not attempt.equal:
        text += f" Layers per stage by memory: {', '.join(map(str, attempt.layers))}."
    if layout.shape.pp > 1 and len(layout.groups) == 1:
        text += " Pipeline stages, because no tensor-parallel layout here fits."
    if layout.shape.expert_parallel:
        text += " Experts stay whole and are dealt out, as splitting them would break them."
    return text
