"""Planning llama.cpp on a host's RAM. Constants measured with llama-server on SmolLM2-135M (see README)."""

from collections.abc import Sequence

from compute_common.enums import EngineKind, Strategy
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.files import hosts_with
from vllm_orchestrator.planning.inventory import Host
from vllm_orchestrator.planning.memory import RankMemory, kv_bytes_per_token
from vllm_orchestrator.planning.result import NoFit, Place, Plan, Wish, to_mib
from vllm_orchestrator.planning.speed import measured_speed

DEFAULT_CONTEXT = 8192
SHORTEST_CONTEXT = 512
DEFAULT_SLOTS = 4
MICRO_BATCH = 512  # llama.cpp's n_ubatch
PROCESS_BYTES = 96 << 20
RAM_STEP_MB = 8 << 10  # hosts whose free RAM differs by less are alike


def plan_cpu(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> Plan | NoFit:
    """The best host whose RAM holds file, KV cache and compute buffers; or what the roomiest is short of.

    The longest context that fits anywhere, then hosts with the files, the fastest measured, most threads,
    most RAM in steps of 8 GiB, and the first of those alike.
    """
    able = [host for host in hosts if EngineKind.LLAMA_CPP in host.engines]
    able = [host for host in able if wish.node_id in (None, host.node_id)]
    if not able:
        return NoFit("no host that was looked at can run llama.cpp", {})
    near = hosts_with(profile, able)

    def rank(host: Host) -> tuple[bool, float, int, int]:
        speed = measured_speed(profile, host) or 0.0
        return host.node_id not in near, -speed, -host.threads, -(host.ram_available_mb // RAM_STEP_MB)

    roomiest = max(able, key=lambda item: item.ram_available_mb)
    slots = wish.max_num_seqs or DEFAULT_SLOTS
    for length in _lengths(profile, wish):
        memory = cpu_memory(profile, length, slots)
        need = to_mib(memory.fixed + memory.request * slots)
        if need <= roomiest.ram_available_mb:
            host = min((each for each in able if need <= each.ram_available_mb), key=rank)
            return _plan(profile, host, wish, memory, slots)
    short = need - roomiest.ram_available_mb
    return NoFit(
        f"{profile.name} needs {need} MiB of RAM at a context of {length} x {slots}; {roomiest.node_id} has"
        f" {roomiest.ram_available_mb} MiB available: {short} MiB short",
        {
            "required_mb": need,
            "available_mb": roomiest.ram_available_mb,
            "short_mb": short,
            "node_id": roomiest.node_id,
        },
    )


def cpu_memory(profile: ModelProfile, length: int, slots: int) -> RankMemory:
    """Bytes of a llama-server: the mapped file, f16 KV cache per slot, buffers of a micro batch."""
    widest = max(profile.intermediate, profile.hidden)
    buffers = MICRO_BATCH * 4 * (profile.vocab + 4 * widest + 2 * profile.hidden)
    return RankMemory(
        weights=profile.weight_bytes,
        activations=buffers + slots * profile.vocab * 4,
        overhead=PROCESS_BYTES,
        request=kv_bytes_per_token(profile, 1, profile.layers) * length,
        tokens_per_request=length,
    )


def _lengths(profile: ModelProfile, wish: Wish) -> list[int]:
    if wish.max_model_len is not None:
        return [wish.max_model_len]
    lengths = [min(profile.max_len, DEFAULT_CONTEXT)]
    while lengths[-1] // 2 >= SHORTEST_CONTEXT:
        lengths.append(lengths[-1] // 2)
    return lengths


def _plan(profile: ModelProfile, host: Host, wish: Wish, memory: RankMemory, slots: int) -> Plan:
    need = to_mib(memory.fixed + memory.request * slots)
    tokens = memory.tokens_per_request * slots
    threads = max(1, host.threads)
    return Plan(
        profile=profile,
        engine=EngineKind.LLAMA_CPP,
        strategy=Strategy.CPU,
        tp=1,
        pp=1,
        places=(Place(host.node_id, (), need, host.address),),
        memory=memory,
        kv_cache_bytes=memory.request * slots,
        kv_cache_tokens=tokens,
        max_model_len=memory.tokens_per_request,
        max_num_seqs=slots,
        max_batched_tokens=0,
        utilization=None,
        threads=threads,
        explanation=(
            f"CPU: llama.cpp with {profile.location.rpartition('/')[2]} on {host.node_id}, {threads} threads."
            f" {need} MiB of RAM: file {to_mib(memory.weights)}, KV cache {to_mib(memory.request * slots)}"
            f" for {slots} requests of {memory.tokens_per_request} tokens, buffers"
            f" {to_mib(memory.activations + memory.overhead)}; {host.ram_available_mb} MiB available."
        ),
        wish=wish,
    )
