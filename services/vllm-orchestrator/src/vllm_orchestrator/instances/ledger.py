"""The reservation ledgers of the hosts, over NATS (bodies of compute_common.schemas.gpu)."""

import asyncio
import time
from collections.abc import Mapping

import structlog

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.gpu import GpuStates, Reservation, ReserveRequest

log = structlog.get_logger("ledger")

RESERVE_SECONDS = 5
RETRY_SECONDS = 1
LEASE_SECONDS = 120  # from reservation to the bind that follows the engine's start
RENEW_SECONDS = LEASE_SECONDS / 4
ENDED = frozenset({"reservation-ended", "unknown-reservation"})


class LedgerClient:
    """Reserve, bind, renew, release at the GPU orchestrator of any host."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def reserve(self, node_id: str, request: ReserveRequest, patience_seconds: float = 0) -> str:
        """The reservation's id. Raises the ledger's own refusal, or 503/504 when it stays away."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                answer = await self._ask("reserve", node_id, request.model_dump(mode="json"))
                return Reservation.model_validate(answer).reservation_id
            except Problem as problem:
                if problem.status not in (503, 504) or time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def bind(self, node_id: str, reservation_id: str, holder: Mapping[str, object]) -> None:
        """Bind to a process and its session, or a container; Problem when the reservation is gone."""
        body = {"reservation_id": reservation_id, **holder}
        await self._ask("bind", node_id, body)

    async def renew(self, node_id: str, reservation_id: str) -> bool:
        """Another LEASE_SECONDS for a reservation, unless it is bound; whether it is."""
        body = {"reservation_id": reservation_id, "timeout_seconds": LEASE_SECONDS}
        answer = await self._ask("renew", node_id, body)
        return answer.get("state") == "bound"

    async def keep(self, node_id: str, reservation_id: str, request: ReserveRequest) -> tuple[str, bool]:
        """As `renew`; one that ended meanwhile is asked anew: (its id now, whether it is bound)."""
        try:
            return reservation_id, await self.renew(node_id, reservation_id)
        except Problem as problem:
            if problem.cause not in ENDED:
                raise
        log.warning("a reservation ended while it was in use", reservation_id=reservation_id)
        return await self.reserve(node_id, request), False

    async def release(self, node_id: str, reservation_id: str) -> None:
        """Release; a ledger that is away frees it by itself once nothing of it lives."""
        try:
            await self._ask("release", node_id, {"reservation_id": reservation_id})
        except Problem as problem:
            if problem.status != 404:  # expired, or released before
                log.warning("not released", reservation_id=reservation_id, cause=problem.cause)

    async def states(self, node_id: str, timeout_seconds: float) -> GpuStates | None:
        """What a host's ledger sees now; None when it does not answer."""
        try:
            answer = await self._bus.request(subjects.gpu_subject("states", node_id), {}, timeout_seconds)
            return GpuStates.model_validate(answer)
        except (Problem, ValueError):
            return None

    async def _ask(self, verb: str, node_id: str, body: dict[str, object]) -> dict[str, object]:
        return await self._bus.request(subjects.gpu_subject(verb, node_id), body, RESERVE_SECONDS)
