"""This host's ledger or another's, by node id; others are asked over NATS."""

import asyncio
from typing import Any

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem, not_found
from compute_common.schemas.gpu import (
    BindRequest,
    CanFitAnswer,
    CanFitRequest,
    CordonAnswer,
    CordonRequest,
    GpuStates,
    HostStates,
    MemoryAnswer,
    RenewRequest,
    Reservation,
    ReservationRef,
    ReserveRequest,
    YieldRequest,
    Yields,
    YieldTarget,
)
from compute_common.times import utc_now
from gpu_orchestrator.local import LocalHost

TIMEOUT_SECONDS = 3.0
MAX_HOSTS_AT_ONCE = 32


class Hosts:
    """Every host of the cluster; None and this host's own id mean this one."""

    def __init__(self, local: LocalHost, bus: Bus) -> None:
        self.local = local
        self._bus = bus

    async def reserve(self, node_id: str | None, request: ReserveRequest) -> Reservation:
        if self._here(node_id):
            return await self.local.reserve(request)
        return Reservation.model_validate(await self._ask(str(node_id), "reserve", request))

    async def renew(self, node_id: str | None, reservation_id: str, request: RenewRequest) -> Reservation:
        if self._here(node_id):
            return await self.local.renew(reservation_id, request)
        body = _about(reservation_id, request)
        return Reservation.model_validate(await self._ask(str(node_id), "renew", body))

    async def bind(self, node_id: str | None, reservation_id: str, request: BindRequest) -> Reservation:
        """A pid is one of that host."""
        if self._here(node_id):
            return await self.local.bind(reservation_id, request)
        body = _about(reservation_id, request)
        return Reservation.model_validate(await self._ask(str(node_id), "bind", body))

    async def release(self, node_id: str | None, reservation_id: str) -> None:
        if self._here(node_id):
            await self.local.release(reservation_id)
        else:
            await self._ask(str(node_id), "release", ReservationRef(reservation_id=reservation_id))

    async def can_fit(self, node_id: str | None, request: CanFitRequest) -> CanFitAnswer:
        if self._here(node_id):
            return await self.local.can_fit(request)
        return CanFitAnswer.model_validate(await self._ask(str(node_id), "can-fit", request))

    async def states(self, node_id: str | None) -> GpuStates:
        """Of one host, or with `all` of every host."""
        if node_id == "all":
            return await all_states(self._bus, await self.local.states())
        if self._here(node_id):
            return await self.local.states()
        return GpuStates.model_validate(await self._ask(str(node_id), "states", {}))

    async def memory(self, node_id: str | None) -> MemoryAnswer:
        if self._here(node_id):
            return await self.local.memory()
        return MemoryAnswer.model_validate(await self._ask(str(node_id), "memory", {}))

    async def cordon(self, node_id: str | None, index: int, cordoned: bool) -> CordonAnswer:
        if self._here(node_id):
            return await self.local.cordon(index, cordoned)
        verb = "cordon" if cordoned else "uncordon"
        return CordonAnswer.model_validate(await self._ask(str(node_id), verb, CordonRequest(index=index)))

    async def yield_to_owner(self, node_id: str | None, request: YieldRequest) -> Yields:
        if self._here(node_id):
            return await self.local.yield_to_owner(request)
        return Yields.model_validate(await self._ask(str(node_id), "yield", request))

    async def end_yield(self, node_id: str | None, target: YieldTarget) -> Yields:
        if self._here(node_id):
            return await self.local.end_yield(target)
        return Yields.model_validate(await self._ask(str(node_id), "end-yield", target))

    async def yields(self, node_id: str | None) -> Yields:
        if self._here(node_id):
            return await self.local.yields()
        return Yields.model_validate(await self._ask(str(node_id), "yields", {}))

    def _here(self, node_id: str | None) -> bool:
        return node_id is None or node_id == self.local.node_id

    async def _ask(self, node_id: str, verb: str, body: object) -> dict[str, Any]:
        return await ask(self._bus, node_id, verb, body)


def _about(reservation_id: str, request: RenewRequest | BindRequest) -> dict[str, Any]:
    return {"reservation_id": reservation_id, **request.model_dump(mode="json", exclude_none=True)}


async def ask(bus: Bus, node_id: str, verb: str, body: object) -> dict[str, Any]:
    """The answer of one host; 404 when nobody serves that id, 504 when it is silent."""
    try:
        return await bus.request(subjects.gpu_subject(verb, node_id), body, TIMEOUT_SECONDS)
    except Problem as problem:
        if problem.cause != "no-responder":
            raise
        raise not_found(
            "unknown-node",
            f"no GPU orchestrator answers for node '{node_id}'; is the id right and that host up?",
        ) from problem


async def all_states(bus: Bus, own: GpuStates) -> GpuStates:
    """The states of every online node of the registry; hosts that do not answer are named."""
    known = await bus.request(subjects.NODES_QUERY, {"include_draining": True}, TIMEOUT_SECONDS)
    others = sorted({str(node["node_id"]) for node in known.get("nodes", [])} - {own.node_id})
    limit = asyncio.Semaphore(MAX_HOSTS_AT_ONCE)

    async def one(node_id: str) -> GpuStates | None:
        async with limit:
            try:
                return GpuStates.model_validate(await ask(bus, node_id, "states", {}))
            except (Problem, ValueError):
                return None

    answers = await asyncio.gather(*(one(node_id) for node_id in others))
    every = [own, *(answer for answer in answers if answer is not None)]
    gpus = [gpu for states in every for gpu in states.gpus]
    return GpuStates(
        node_id=own.node_id,
        gpus=gpus,
        count=len(gpus),
        host_memory=own.host_memory,
        hosts=[HostStates(node_id=s.node_id, host_memory=s.host_memory) for s in every],
        unreachable=[node_id for node_id, answer in zip(others, answers, strict=True) if answer is None],
        flagged=[each for states in every for each in states.flagged],
        timestamp=utc_now(),
    )
