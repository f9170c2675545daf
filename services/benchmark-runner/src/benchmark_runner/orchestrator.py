"""The vLLM orchestrator and its instances, over NATS."""

import asyncio
import contextlib
import time

import structlog
from nats.errors import Error as NatsError
from nats.js.errors import NoKeysError
from pydantic import ValidationError

from compute_common import jetstream, subjects
from compute_common.bus import Bus
from compute_common.enums import EngineKind, InstanceStatus, Strategy
from compute_common.ids import new_id
from compute_common.problems import Problem, invalid, unavailable
from compute_common.schemas.benchmark import BenchmarkRequest
from compute_common.schemas.vllm import Instance

log = structlog.get_logger("orchestrator")

ANSWER_SECONDS = 15.0
POLL_SECONDS = 0.5
STOP_ATTEMPTS = 5


class RunFailedError(Exception):
    """The run cannot go on; the message is the reason its record shows."""


def layout(request: BenchmarkRequest) -> dict[str, object]:
    """GPUs and degrees as the orchestrator takes them; without any of them the planner chooses.

    422 where they contradict each other. Pure.
    """
    count, tp, pp = request.gpu_count, request.tensor_parallel_size, request.pipeline_parallel_size
    indices = request.gpu_indices or None
    if indices is not None:
        if count is not None and count != len(set(indices)):
            raise invalid(f"gpu_count is {count}, but gpu_indices names {len(set(indices))} GPUs")
        count = len(set(indices))
    if count == 0:
        if (tp or 1) * (pp or 1) != 1:
            raise invalid("gpu_count is 0: there is nothing to be parallel on")
        return {"strategy": Strategy.CPU.value}
    if count is not None and (tp or pp):
        if count % ((tp or 1) * (pp or 1)) or (tp and pp and tp * pp != count):
            raise invalid(f"tensor × pipeline parallel must be the {count} GPUs asked for")
        tp, pp = tp or count // (pp or 1), pp or count // (tp or 1)
    elif count is not None and count > 1:
        tp = count
    one = count == 1 and not tp and not pp and not _for_ram(request)
    return {
        "strategy": Strategy.SINGLE_GPU.value if one else None,
        "tensor_parallel_size": tp,
        "pipeline_parallel_size": pp,
        "gpu_indices": sorted(set(indices)) if indices is not None else None,
    }


def _for_ram(request: BenchmarkRequest) -> bool:
    """A GGUF runs on the processor, whatever the number of GPUs says."""
    return request.engine is EngineKind.LLAMA_CPP or (request.model_path or "").endswith(".gguf")


class Orchestrator:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def instances(self) -> list[Instance]:
        """Every instance of the cluster; 503 while NATS is away."""
        js = self._bus.jetstream()
        found = []
        try:
            bucket = await jetstream.ensure_bucket(js, jetstream.INSTANCES_BUCKET)
            for key in await bucket.keys():
                with contextlib.suppress(ValidationError):
                    found.append(Instance.model_validate_json((await bucket.get(key)).value or b""))
        except NoKeysError:
            return []
        except (NatsError, TimeoutError) as error:
            raise unavailable("nats", "the instances could not be read from NATS; try again") from error
        return found

    async def check(self, request: BenchmarkRequest) -> None:
        """Ask for a plan only: raises the orchestrator's own refusal of what can never run.

        That nothing fits now is no refusal: it may when the run's turn comes, and else the run says so.
        """
        ask = self._deployment(request, new_id("bench")) | {"dry_run": True}
        try:
            await self._bus.request(subjects.VLLM_REQUEST, ask, ANSWER_SECONDS)
        except Problem as problem:
            if problem.cause != "no-fit":
                raise

    async def start(self, request: BenchmarkRequest, benchmark_id: str) -> str:
        """Ask for a temporary instance; its name. RunFailedError with the orchestrator's reason."""
        try:
            answer = await self._bus.request(
                subjects.VLLM_REQUEST, self._deployment(request, benchmark_id), ANSWER_SECONDS
            )
        except Problem as problem:
            raise RunFailedError(f"the model could not be deployed: {problem.detail}") from problem
        return str(answer.get("instance_name", benchmark_id))

    async def wait_ready(self, name: str, seconds: float) -> Instance:
        """The instance once it is ready; RunFailedError when it fails, ends or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(Problem):
                found = next((i for i in await self.instances() if i.instance_name == name), None)
                if found is not None and found.status is InstanceStatus.READY:
                    return found
                if found is not None and found.status in (InstanceStatus.FAILED, InstanceStatus.STOPPED):
                    raise RunFailedError(
                        f"the instance did not start: {found.last_error or found.status.value}"
                    )
            await asyncio.sleep(POLL_SECONDS)
        raise RunFailedError(f"the instance was not ready within {seconds:g} s")

    async def stop(self, name: str) -> bool:
        """Stop a temporary instance wherever it runs; tried for a while. Whether it is gone; never raises."""
        for attempt in range(STOP_ATTEMPTS):
            try:
                found = next((i for i in await self.instances() if i.instance_name == name), None)
                if found is None or found.status is InstanceStatus.STOPPED:
                    return True
                for node_id in sorted({p.node_id for p in found.placement} or {found.node_id or ""}):
                    subject = subjects.vllm_subject("stop", node_id)
                    await self._bus.request(subject, {"instance_name": name}, ANSWER_SECONDS)
            except (Problem, ValueError) as problem:
                log.warning("temporary instance not stopped yet", instance=name, reason=str(problem))
                await asyncio.sleep(min(2**attempt * 0.25, 2))
            else:
                return True
        return False

    def _deployment(self, request: BenchmarkRequest, benchmark_id: str) -> dict[str, object]:
        longest = max(request.context_lengths) + request.output_tokens
        asked = {
            "model_name": request.model_name,
            "model_path": request.model_path,
            "instance_name": benchmark_id,
            "owner": f"benchmark:{benchmark_id}",
            "engine": request.engine,
            "max_model_len": longest + 16,
            "max_num_seqs": max(request.batch_sizes),
            **layout(request),
        }
        return {key: value for key, value in asked.items() if value is not None}
