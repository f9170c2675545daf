"""The reservation ledger of a host, over NATS (bodies of compute_common.schemas.gpu)."""

import asyncio
import time

import structlog

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.gpu import GpuStates, Reservation, ReserveRequest

log = structlog.get_logger("ledger")

RESERVE_SECONDS = 5
RETRY_SECONDS = 1
LEASE_SECONDS = 120  # from reservation to the bind that follows the engine's start


class LedgerClient:
    """Reserve, bind, release on this host's GPU orchestrator."""

    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id

    async def reserve(self, request: ReserveRequest, patience_seconds: float = 0) -> str:
        """The reservation's id. Raises the ledger's own refusal, or 503/504 when it stays away."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                answer = await self._ask("reserve", request.model_dump(mode="json"))
                return Reservation.model_validate(answer).reservation_id
            except Problem as problem:
                if problem.status not in (503, 504) or time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def bind(self, reservation_id: str, pid: int, start_time: float) -> None:
        """Bind to a process and its session; Problem when the reservation is gone."""
        await self._ask("bind", {"reservation_id": reservation_id, "pid": pid, "start_time": start_time})

    async def renew(self, reservation_id: str) -> None:
        """Another LEASE_SECONDS for a reservation that is not bound."""
        await self._ask("renew", {"reservation_id": reservation_id, "timeout_seconds": LEASE_SECONDS})

    async def release(self, reservation_id: str) -> None:
        """Release; a ledger that is away frees it by itself once nothing of it lives."""
        try:
            await self._ask("release", {"reservation_id": reservation_id})
        except Problem as problem:
            log.warning("not released", reservation_id=reservation_id, cause=problem.cause)

    async def states(self, node_id: str, timeout_seconds: float) -> GpuStates | None:
        """What a host's ledger sees now; None when it does not answer."""
        try:
            answer = await self._bus.request(subjects.gpu_subject("states", node_id), {}, timeout_seconds)
            return GpuStates.model_validate(answer)
        except (Problem, ValueError):
            return None

    async def _ask(self, verb: str, body: dict[str, object]) -> dict[str, object]:
        return await self._bus.request(subjects.gpu_subject(verb, self._node_id), body, RESERVE_SECONDS)
