"""`plan(model, hosts, wish)`: the one entry of the planner. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compute_common.enums import EngineKind, Strategy
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.advice import what_would_fit
from vllm_orchestrator.planning.cpu import plan_cpu
from vllm_orchestrator.planning.cpu_vllm import plan_cpu_vllm
from vllm_orchestrator.planning.files import said
from vllm_orchestrator.planning.gpu import plan_gpu
from vllm_orchestrator.planning.inventory import Host
from vllm_orchestrator.planning.result import NoFit, Plan, Rejected, Wish

MAX_NAMED = 20
_GGUF = (
    "a GGUF file, which only llama_cpp on RAM runs",
    "without engine, strategy, tensor_parallel_size and pipeline_parallel_size",
)
_NO_GGUF = ("not a GGUF file", "engine vllm, or a GGUF of the model under VLLM_MODEL_PATH")


@dataclass(frozen=True)
class Model:
    """A model in the forms it is at hand: for vLLM (a folder or a Hub id), as a GGUF file, or both."""

    vllm: ModelProfile | None = None
    gguf: ModelProfile | None = None

    @property
    def any(self) -> ModelProfile:
        """The form that names the model. One of the two is always there."""
        found = self.vllm or self.gguf
        if found is None:
            raise ValueError("a model without a form")
        return found


def plan(model: Model, hosts: Sequence[Host], wish: Wish) -> Plan | NoFit:
    """The best deployment of `model` on `hosts`: vLLM on a GPU host, else llama.cpp on RAM for a GGUF.

    A NoFit names the shortfall in MiB and what would fit. Hosts that take nothing new now are named.
    """
    closed = [host for host in hosts if host.closed and wish.node_id in (None, host.node_id)][:MAX_NAMED]
    found = _plan_open(model, [host for host in hosts if not host.closed], wish)
    found = said(found, hosts) if isinstance(found, Plan) else found
    if not closed:
        return found
    left_out = tuple(Rejected(f"host {host.node_id}", host.closed) for host in closed)
    words = "; ".join(f"{host.node_id}: {host.closed}" for host in closed)
    found = replace(found, rejected=(*left_out, *found.rejected))
    if isinstance(found, Plan):
        return replace(found, explanation=f"{found.explanation} Left out: {words}.")
    able = any(not host.closed and wish.node_id in (None, host.node_id) for host in hosts)
    reason = f"{found.reason}. Left out: {words}" if able else f"no host takes a new engine now: {words}"
    return replace(found, reason=reason)


def _plan_open(model: Model, hosts: Sequence[Host], wish: Wish) -> Plan | NoFit:
    too_long = _too_long(model.any, wish)
    if too_long is not None:
        return too_long
    on_gpus = wish.engine is not EngineKind.LLAMA_CPP and wish.strategy is not Strategy.CPU
    on_ram = wish.engine is not EngineKind.VLLM and wish.strategy in (None, Strategy.CPU)
    able = [host for host in hosts if EngineKind.VLLM in host.engines]
    if model.vllm is not None and _on_cpu(able, wish):
        return plan_cpu_vllm(model.vllm, able, wish)
    refusal: NoFit | None = None
    if model.vllm is not None and on_gpus:
        found = _on_gpus(model.vllm, able, wish)
        if isinstance(found, Plan):
            return found
        refusal = found
    if model.gguf is not None and on_ram and not (wish.tp or wish.pp):
        found = plan_cpu(model.gguf, hosts, wish)
        if isinstance(found, Plan) or refusal is None:
            return found
    return _advised(model, able, wish, refusal)


def _on_gpus(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> Plan | NoFit:
    """The KV cache in the type that the detectors recommend, where every host of the layout does and none was
    asked for; else in the model's own."""
    advised = [host for host in hosts if host.advice.kv_cache_dtype == "fp8"]
    if wish.kv_cache_dtype is not None or profile.kv_cache_dtype or not advised:
        return plan_gpu(profile, hosts, wish)
    found = plan_gpu(profile, hosts, wish)
    named = {host.node_id for host in advised}
    if isinstance(found, Plan) and not {place.node_id for place in found.places} <= named:
        return found
    smaller = plan_gpu(profile, advised, replace(wish, kv_cache_dtype="fp8", kv_advised=True))
    return smaller if isinstance(smaller, Plan) else found


def _on_cpu(hosts: Sequence[Host], wish: Wish) -> bool:
    """Whether vLLM is to run on processors: asked for by name, and no GPU to take."""
    if wish.engine is not EngineKind.VLLM or wish.strategy not in (None, Strategy.CPU):
        return False
    looked_at = [host for host in hosts if wish.node_id in (None, host.node_id)]
    return wish.strategy is Strategy.CPU or (bool(looked_at) and not any(host.gpus for host in looked_at))


def _advised(model: Model, hosts: Sequence[Host], wish: Wish, refusal: NoFit | None) -> NoFit:
    if refusal is None:
        kind, change = _GGUF if model.gguf else _NO_GGUF
        reason = f"{model.any.name} is {kind}: the engine, strategy or degrees asked for do not suit it"
        return NoFit(reason, alternatives=({"change": change},))
    if model.vllm is None or not wish.advise:
        return refusal
    return replace(refusal, alternatives=what_would_fit(model.vllm, hosts, wish))


def _too_long(profile: ModelProfile, wish: Wish) -> NoFit | None:
    if wish.max_model_len is None or wish.max_model_len <= profile.max_len:
        return None
    return NoFit(
        f"max_model_len {wish.max_model_len} is longer than the {profile.max_len} tokens of {profile.name}",
        {"max_model_len": wish.max_model_len, "model_max_len": profile.max_len},
        ({"change": f"max_model_len {profile.max_len}", "max_model_len": profile.max_len},),
    )
