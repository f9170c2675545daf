"""A plan as the command line of its engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from compute_common.enums import EngineKind
from vllm_orchestrator.planning.release import release_of
from vllm_orchestrator.planning.result import Place, Plan
from vllm_orchestrator.planning.several_hosts import joined_by_ray

GIB = 1 << 30
_PRIVATE = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
SHUTDOWN_SECONDS = 20
MASTER_PORT = 29_501
# what older and newer llama-servers may lack; completions are answered beside embeddings, at no cost
LLAMA_OPTIONAL = (
    ("--metrics",),
    ("--no-webui",),
    ("--offline",),
    ("--device", "none"),
    ("--embeddings",),
    ("--pooling", "mean"),
)


@dataclass(frozen=True)
class Serving:
    """Under which names and where an engine serves. `model` is what it loads: a path or a Hub id."""

    names: Sequence[str]
    model: str
    host: str
    port: int


def engine_argv(plan: Plan, serving: Serving, *, binary: str = "", rank: int = 0) -> list[str]:
    """The argv of `rank` (one per host), in the words that the release of the plan knows.

    A host that Ray joins runs Ray alone beside rank 0, which runs this (`rendering/ray.py`).
    """
    if plan.engine is EngineKind.LLAMA_CPP:
        return _llama(plan, serving, binary or "llama-server")
    return _vllm(plan, serving, binary or "vllm", rank)


def engine_environment(plan: Plan) -> dict[str, str]:
    """What an engine finds in its environment beside what every process here has."""
    if plan.engine is EngineKind.LLAMA_CPP:
        return {}
    if plan.utilization is None:
        return _cpu_environment(plan)
    chosen = "HIP_VISIBLE_DEVICES" if plan.vendor == "amd" else "CUDA_VISIBLE_DEVICES"
    cards = {chosen: ",".join(devices_of(plan.places[0]))}
    return {**dict(plan.environment), **cards, **layer_partition(plan), **_PRIVATE}


def layer_partition(plan: Plan) -> dict[str, str]:
    """Layers per pipeline stage, where vLLM would not deal them out so by itself."""
    layers = ",".join(map(str, plan.stage_layers))
    return {"VLLM_PP_LAYER_PARTITION": layers} if layers else {}


def devices_of(place: Place) -> list[str]:
    """What an engine is shown of a host: indices, or the uuids of MIG slices."""
    return list(place.devices) or [str(index) for index in place.gpu_indices]


def _cpu_environment(plan: Plan) -> dict[str, str]:
    """One thread group per rank, not bound: more ranks than NUMA nodes fail with vLLM's own binding."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(plan.kv_cache_bytes // GIB),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(plan.threads),
        **_PRIVATE,
    }


def _vllm(plan: Plan, serving: Serving, binary: str, rank: int) -> list[str]:
    wish, release = plan.wish, release_of(plan.wish.engine_version)
    argv = [
        *(binary, "serve", serving.model),
        *("--served-model-name", *serving.names),
        *("--host", serving.host, "--port", str(serving.port)),
        *("--tensor-parallel-size", str(plan.tp), "--pipeline-parallel-size", str(plan.pp)),
        *("--max-model-len", str(plan.max_model_len), "--max-num-seqs", str(plan.max_num_seqs)),
        *("--max-num-batched-tokens", str(plan.max_batched_tokens)),
        *(("--gpu-memory-utilization", f"{plan.utilization:.4f}") if plan.utilization else ()),
        *(("--shutdown-timeout", str(SHUTDOWN_SECONDS)) if release.drains else ()),
    ]
    chosen = (
        ("--dtype", wish.dtype or plan.dtype),
        ("--quantization", wish.quantization),
        ("--kv-cache-dtype", wish.kv_cache_dtype),
    )
    for flag, value in chosen:
        argv += [flag, value] if value else []
    argv += ["--enforce-eager"] if wish.enforce_eager else []
    argv += ["--enable-expert-parallel"] if plan.expert_parallel else []
    return argv + _several_hosts(plan, rank)


def _several_hosts(plan: Plan, rank: int) -> list[str]:
    """vLLM's native multi-node: the same command on each host, one API server on rank 0 (VLLM.md B1)."""
    if len(plan.places) == 1:
        return []
    if joined_by_ray(plan):
        return ["--distributed-executor-backend", "ray"]
    head = address_of(plan.places[0])
    argv = ["--nnodes", str(len(plan.places)), "--node-rank", str(rank)]
    argv += ["--master-addr", head, "--master-port", str(MASTER_PORT)]
    return argv + (["--headless"] if rank else [])


def address_of(place: Place) -> str:
    """Where a host is found by the others."""
    return place.address or place.node_id


def _llama(plan: Plan, serving: Serving, binary: str) -> list[str]:
    return [
        *(binary, "-m", serving.model),
        *("--host", serving.host, "--port", str(serving.port)),
        *("--alias", ",".join(serving.names)),
        *("-c", str(plan.max_model_len * plan.max_num_seqs), "-np", str(plan.max_num_seqs)),
        *("-t", str(plan.threads)),
        *(word for words in LLAMA_OPTIONAL for word in words),
    ]


def known_words(argv: Sequence[str], flags: frozenset[str]) -> list[str]:
    """`argv` less those optional words of llama-server that a binary with `flags` does not know."""
    unknown = {words[0]: len(words) for words in LLAMA_OPTIONAL if words[0] not in flags}
    kept: list[str] = []
    skip = 0
    for word in argv:
        skip = skip or unknown.get(word, 0)
        if skip:
            skip -= 1
        else:
            kept.append(word)
    return kept
