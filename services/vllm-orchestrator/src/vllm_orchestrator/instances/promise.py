"""The memory promised to one instance, on every host of its placement: all of it or none."""

import asyncio
import time

import structlog

from compute_common.ids import new_id
from compute_common.problems import Problem
from compute_common.schemas.gpu import ReserveRequest
from compute_common.schemas.vllm import Placement
from vllm_orchestrator.engines.runtime import Engine
from vllm_orchestrator.instances.ledger import LEASE_SECONDS, RENEW_SECONDS
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.tools import Tools

log = structlog.get_logger("engine")


class Promise:
    """Kept in the record: its key before the ledgers are asked, so that a lost answer is found again."""

    def __init__(self, record: Record, tools: Tools) -> None:
        self._record = record
        self._tools = tools
        self._renew_at: float | None = 0.0  # of an engine that was adopted it is not known; None: no need

    @property
    def whole(self) -> bool:
        """Whether every host of the placement has promised."""
        return all(place.node_id in self._record.reservations for place in self._record.placement)

    async def reserve(self, patience_seconds: float = 0) -> None:
        """Raises a ledger's refusal; then nothing is reserved anywhere."""
        record = self._record
        record.reservation_key = record.reservation_key or new_id("engine")
        try:
            for place in record.placement:
                if place.node_id not in record.reservations:
                    await self._reserve(place, patience_seconds)
        except Problem:
            await self.release()
            raise

    async def bind(self, engine: Engine) -> None:
        """At once, not when it is ready: a loading engine would be counted beside its own reservation."""
        node_id = self._tools.node_id
        self._renew_at = None
        try:
            await self._bind(node_id, engine)
        except Problem as problem:
            if not await engine.alive():
                return  # the exit is the news, not the bind
            if problem.cause in ("no-such-process", "no-such-container") or problem.status not in (404, 409):
                # The ledger may live in a container of its own and see other pids: renew instead of binding.
                log.warning("not bound, renewing", instance=self._record.instance_name, cause=problem.cause)
                self._renew_at = time.monotonic() + RENEW_SECONDS
                return
            self._record.reservations.pop(node_id, None)  # an expired promise: ask anew
            await self.reserve()
            await self._bind(node_id, engine)

    async def keep(self) -> None:
        """Renew what could not be bound here; does nothing until it is time, nor once it is bound."""
        if self._is_due() and await self._renew(self._tools.node_id):
            self._renew_at = None

    async def hold(self) -> None:
        """Renew on every host while nothing is started that could be bound."""
        self._renew_at = self._renew_at or time.monotonic() + RENEW_SECONDS
        if self._is_due():
            await asyncio.gather(*map(self._renew, list(self._record.reservations)))

    def _is_due(self) -> bool:
        if self._renew_at is None or time.monotonic() < self._renew_at:
            return False
        self._renew_at = time.monotonic() + RENEW_SECONDS
        return True

    async def _renew(self, node_id: str) -> bool:
        """Whether that host's reservation is bound."""
        record = self._record
        place = next((each for each in record.placement if each.node_id == node_id), None)
        if place is None or node_id not in record.reservations:
            return False
        try:
            known = record.reservations[node_id]
            record.reservations[node_id], bound = await self._tools.ledger.keep(
                node_id, known, reserve_request(record, place)
            )
        except Problem as problem:
            log.warning("not renewed", instance=record.instance_name, node_id=node_id, cause=problem.cause)
            return False
        return bound

    async def release(self) -> None:
        """Everywhere, also what was reserved while its answer was lost."""
        record = self._record
        self._renew_at = None
        if record.reservation_key is not None:
            await asyncio.gather(*(self._release(place) for place in record.placement))
        record.reservations = {}
        record.reservation_key = None

    async def _reserve(self, place: Placement, patience_seconds: float) -> None:
        ask = reserve_request(self._record, place)
        self._record.reservations[place.node_id] = await self._tools.ledger.reserve(
            place.node_id, ask, patience_seconds
        )

    async def _release(self, place: Placement) -> None:
        reservation = self._record.reservations.get(place.node_id)
        try:
            # the same key answers the reservation that it made, if it made one
            ask = reserve_request(self._record, place)
            reservation = reservation or await self._tools.ledger.reserve(place.node_id, ask)
        except Problem:
            return
        await self._tools.ledger.release(place.node_id, reservation)

    async def _bind(self, node_id: str, engine: Engine) -> None:
        reservation = self._record.reservations[node_id]
        await self._tools.ledger.bind(node_id, reservation, engine.holder)


def reserve_request(record: Record, place: Placement) -> ReserveRequest:
    """What is asked of the ledger of one of an instance's hosts."""
    return ReserveRequest(
        gpu_indices=place.gpu_indices,
        required_mb=place.reserved_mb,
        timeout_seconds=LEASE_SECONDS,
        owner=record.owner or f"instance:{record.instance_name}",
        model_name=record.model_name,
        idempotency_key=record.reservation_key,
    )
