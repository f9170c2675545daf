"""Memory of this host for an engine that the vLLM orchestrator did not start, out of the host's ledger."""

from http import HTTPStatus

import structlog

from benchmark_runner.orchestrator import RunFailedError
from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem

log = structlog.get_logger("ledger")

ANSWER_SECONDS = 5.0
MAX_SECONDS = 86_400.0
MIB = 1 << 20
SPARE_MB = 256


def engine_mb(model_bytes: int) -> int:
    """MiB of RAM for an engine with these weights; its KV cache is taken to be within a fifth. Pure."""
    return SPARE_MB + -(-model_bytes * 6 // (5 * MIB))


class Ledger:
    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id

    async def reserve(self, required_mb: int, owner: str, model: str, seconds: float) -> str | None:
        """The reservation's id, None where no ledger answers. RunFailedError with the ledger's refusal."""
        ask = {
            "gpu_indices": [],
            "required_mb": required_mb,
            "owner": owner,
            "model_name": model,
            "timeout_seconds": min(seconds, MAX_SECONDS),
        }
        try:
            answer = await self._ask("reserve", ask)
        except Problem as problem:
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                log.warning("engine without a reservation", reason=problem.detail)
                return None
            raise RunFailedError(f"this host has no room for the engine: {problem.detail}") from problem
        return str(answer.get("reservation_id"))

    async def bind(self, reservation_id: str | None, pid: int) -> None:
        """The memory is that process's and its session's; unseen by the ledger, the time limit stands."""
        await self._try("bind", reservation_id, {"pid": pid})

    async def release(self, reservation_id: str | None) -> None:
        """Give it back; what cannot be said ends with the process, or with the time limit."""
        await self._try("release", reservation_id, {})

    async def _try(self, verb: str, reservation_id: str | None, more: dict[str, object]) -> None:
        if reservation_id is None:
            return
        try:
            await self._ask(verb, {"reservation_id": reservation_id, **more})
        except Problem as problem:
            log.warning("ledger not told", verb=verb, reservation=reservation_id, reason=problem.detail)

    async def _ask(self, verb: str, body: dict[str, object]) -> dict[str, object]:
        return await self._bus.request(subjects.gpu_subject(verb, self._node_id), body, ANSWER_SECONDS)
