"""Planning vLLM over GPUs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, floor
from typing import Any

from compute_common.enums import EngineKind
from compute_common.units import MIB
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.feasibility import why_not
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.layouts import Layout, on_one_host, over_hosts, unlike, wanted
from vllm_orchestrator.planning.memory import RankMemory, Workload, fullest_rank
from vllm_orchestrator.planning.result import NoFit, Place, Plan, Rejected, Wish, to_mib

UTILIZATION = 0.92  # vLLM's own default since 0.22
SHORTEST_CONTEXT = 4096
SHARED_CACHE_TOKENS = 65_536  # the KV cache a right-sized instance is given, at least one full request
WHOLE_CARD_FROM = 0.45  # an instance that needs more of a card than this is given the card
BIG_CARD_MB, HUGE_CARD_MB = 70 * 1024, 160 * 1024
MAX_REJECTED = 40


@dataclass(frozen=True)
class _Try:
    layout: Layout
    workload: Workload
    memory: RankMemory
    usable_mb: int  # per GPU: the least of the cards
    total_mb: int

    @property
    def short_mb(self) -> int:
        return to_mib(self.memory.least) - self.usable_mb


def plan_gpu(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> Plan | NoFit:
    """The best layout of `profile` over the GPUs of `hosts`, or what is short.

    One host before several, the whole context before a shortened one (when none was asked for), fewest cards.
    """
    profile = asked_for(profile, wish)
    hosts = [host for host in hosts if wish.node_id in (None, host.node_id)]
    search = _Search(profile, wish)
    single = [layout for host in unlike(hosts) for layout in on_one_host(host)]
    for layouts in (single, over_hosts(hosts)):
        found = search.first_fit(layouts)
        if found is not None:
            return search.plan(found)
    return search.no_fit(hosts)


def asked_for(profile: ModelProfile, wish: Wish) -> ModelProfile:
    """The profile under the asked-for dtype and quantisation."""
    if wish.quantization and wish.quantization != profile.quantization:
        profile = replace(
            profile, quantization=wish.quantization.lower(), weight_bytes=0, group_size=0, weight_block=0
        )
    if wish.dtype and wish.dtype != "auto" and profile.quantization is None and not profile.weight_bytes:
        profile = replace(profile, dtype=wish.dtype)
    return profile


class _Search:
    def __init__(self, profile: ModelProfile, wish: Wish) -> None:
        self.profile = profile
        self.wish = wish
        self.rejected: dict[str, str] = {}
        self.closest: _Try | None = None
        self._memory = cache(lambda tp, pp, workload: fullest_rank(profile, tp, pp, workload))

    def first_fit(self, layouts: Iterable[Layout]) -> _Try | None:
        """The cheapest layout that fits, at the longest context for which any does."""
        possible = [layout for layout in layouts if self._possible(layout)]
        possible.sort(key=lambda layout: layout.cost)
        for length in self._lengths():
            for layout in possible:
                attempt = self._attempt(layout, length)
                if attempt.short_mb <= 0:
                    return attempt
                self._note(layout, attempt)
        return None

    def _possible(self, layout: Layout) -> bool:
        if not wanted(layout, self.wish):
            return False
        reason = why_not(self.profile, layout.tp, layout.pp, layout.gpus[0].capability)
        if reason is not None:
            self.rejected.setdefault(f"TP {layout.tp} x PP {layout.pp}", reason)
        return reason is None

    def _lengths(self) -> list[int]:
        if self.wish.max_model_len is not None:
            return [self.wish.max_model_len]
        lengths = [self.profile.max_len]
        while lengths[-1] // 2 >= SHORTEST_CONTEXT:
            lengths.append(lengths[-1] // 2)
        return lengths

    def _attempt(self, layout: Layout, length: int) -> _Try:
        total = min(gpu.total_mb for gpu in layout.gpus)
        workload = workload_for(self.wish, length, total)
        share = self.wish.gpu_memory_utilization or UTILIZATION
        usable = min(_usable_mb(gpu, share) for gpu in layout.gpus)
        return _Try(layout, workload, self._memory(layout.tp, layout.pp, workload), usable, total)

    def _note(self, layout: Layout, attempt: _Try) -> None:
        need = to_mib(attempt.memory.least)
        reason = f"needs {need} MiB per GPU, {attempt.usable_mb} usable: {attempt.short_mb} MiB short"
        self.rejected[layout.label] = reason
        if self.closest is None or attempt.short_mb < self.closest.short_mb:
            self.closest = attempt

    def plan(self, found: _Try) -> Plan:
        layout, memory = found.layout, found.memory
        reserved, utilization = right_size(found.usable_mb, found.total_mb, memory, self.wish)
        cache_bytes = max(memory.request, reserved * MIB - memory.fixed)
        tokens = cache_bytes * memory.tokens_per_request // max(1, memory.request)
        workload = found.workload
        return Plan(
            profile=self.profile,
            engine=EngineKind.VLLM,
            strategy=layout.strategy,
            tp=layout.tp,
            pp=layout.pp,
            places=tuple(
                Place(host.node_id, tuple(gpu.index for gpu in gpus), reserved, host.address)
                for host, gpus in layout.groups
            ),
            memory=memory,
            kv_cache_bytes=cache_bytes,
            kv_cache_tokens=tokens,
            max_model_len=workload.max_model_len,
            max_num_seqs=workload.max_num_seqs,
            max_batched_tokens=workload.max_batched_tokens,
            utilization=utilization,
            threads=layout.groups[0][0].threads,
            explanation=_explain(self.profile, found, reserved, tokens),
            wish=self.wish,
            rejected=self._rejections(),
            vendor=layout.gpus[0].vendor,
        )

    def no_fit(self, hosts: Sequence[Host]) -> NoFit:
        reason, shortfall = self._shortfall(hosts)
        return NoFit(reason, shortfall, (), self._rejections())

    def _rejections(self) -> tuple[Rejected, ...]:
        return tuple(Rejected(*item) for item in list(self.rejected.items())[:MAX_REJECTED])

    def _shortfall(self, hosts: Sequence[Host]) -> tuple[str, dict[str, Any]]:
        workload = workload_for(self.wish, self._lengths()[-1], 0)
        whole = to_mib(self._memory(1, 1, workload).least)
        if not any(host.gpus for host in hosts):
            reason = (
                f"{self.profile.name} needs about {whole} MiB of GPU memory"
                f" ({to_mib(self._memory(1, 1, workload).weights)} MiB of it weights);"
                f" {len(hosts)} host(s) looked at, none has a usable GPU"
            )
            return reason, {"required_total_mb": whole, "available_total_mb": 0, "short_mb": whole}
        if self.closest is None:
            reason = "; ".join(f"{layout}: {why}" for layout, why in list(self.rejected.items())[:4])
            asked = reason or "no host has as many GPUs of one kind as were asked for"
            return f"no layout of {self.profile.name} is possible: {asked}", {"required_total_mb": whole}
        best = self.closest
        need = to_mib(best.memory.least)
        reason = (
            f"{self.profile.name} does not fit: the nearest is {best.layout.label}, which needs {need} MiB"
            f" per GPU (weights {to_mib(best.memory.weights)}, one request of {best.workload.max_model_len}"
            f" tokens {to_mib(best.memory.request)}, the rest"
            f" {to_mib(best.memory.fixed - best.memory.weights)}) of {best.usable_mb} MiB"
            f" usable: {best.short_mb} MiB per GPU short"
        )
        return reason, {
            "required_mb_per_gpu": need,
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


def workload_for(wish: Wish, length: int, card_mb: int) -> Workload:
    """vLLM's own defaults by card size (0.32), under what was asked for."""
    seqs, tokens = (1024, 8192) if card_mb >= BIG_CARD_MB else (256, 2048)
    tokens = 16_384 if card_mb >= HUGE_CARD_MB else tokens
    return Workload(
        max_model_len=length,
        max_num_seqs=wish.max_num_seqs or seqs,
        max_batched_tokens=wish.max_batched_tokens or tokens,
        kv_dtype_bytes=1 if (wish.kv_cache_dtype or "").startswith("fp8") else 2,
        enforce_eager=wish.enforce_eager,
    )


def right_size(usable_mb: int, total_mb: int, memory: RankMemory, wish: Wish) -> tuple[int, float]:
    """(MiB to reserve per GPU, gpu_memory_utilization): the card when it is needed, else what is useful."""
    if wish.gpu_memory_utilization is not None:
        return ceil(wish.gpu_memory_utilization * total_mb), wish.gpu_memory_utilization
    per_token = memory.request / max(1, memory.tokens_per_request)
    useful = to_mib(memory.fixed + max(memory.request, per_token * SHARED_CACHE_TOKENS))
    claim = usable_mb if useful > WHOLE_CARD_FROM * total_mb else min(usable_mb, useful)
    share = ceil(claim / total_mb * 1e4) / 1e4
    if share * total_mb > usable_mb:
        share = floor(usable_mb / total_mb * 1e4) / 1e4
    return ceil(share * total_mb), share


def _usable_mb(gpu: GpuSlot, share: float) -> int:
    """What an engine may claim: its share of the card, and never more than is free."""
    claim = floor(gpu.total_mb * share)
    # vLLM refuses to start when less than the asked share is free, so an asked share is all or nothing
    return min(gpu.free_mb, claim)


def _explain(profile: ModelProfile, found: _Try, reserved: int, tokens: int) -> str:
    layout, memory = found.layout, found.memory
    text = (
        f"{layout.strategy.value}: {layout.label}. Per GPU {to_mib(memory.weights)} MiB weights,"
        f" {to_mib(memory.activations)} activations, {to_mib(memory.overhead)} overhead; {reserved} MiB"
        f" reserved of {found.total_mb}, which leaves a KV cache of {tokens} tokens."
    )
    if found.workload.max_model_len < profile.max_len:
        text += f" Context {found.workload.max_model_len} instead of the model's {profile.max_len}."
    if layout.pp > 1 and len(layout.groups) == 1:
        text += " Pipeline stages, because no tensor-parallel layout here fits."
    return text
