"""The HTTP routes of the ledger."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from compute_common.ids import Identifier
from compute_common.schemas.gpu import (
    BindRequest,
    CanFitAnswer,
    CanFitRequest,
    CordonAnswer,
    GpuStates,
    MemoryAnswer,
    RenewRequest,
    Reservation,
    ReservationList,
    ReserveRequest,
    YieldRequest,
    Yields,
    YieldTarget,
)
from compute_common.shell.routing import Cursor, Limit, new_router
from gpu_orchestrator.hosts import Hosts

NodeId = Annotated[Identifier | None, Query(description="Ask that host over NATS; this one by default")]
GpuIndex = Annotated[int, Path(ge=0, le=4096, description="Index of a GPU of that host")]


def reservation_router(hosts: Hosts) -> APIRouter:
    """Reserve, renew, bind, release, list."""
    r = new_router("reservations")

    @r.post("/api/v1/gpu/reserve", status_code=201, response_model=Reservation)
    async def reserve(request: ReserveRequest, node_id: NodeId = None) -> Reservation:
        """Reserve VRAM on all of the GPUs or on none; `gpu_indices: []` reserves host RAM."""
        return await hosts.reserve(node_id, request)

    @r.post("/api/v1/gpu/reservations/{reservation_id}/renew", response_model=Reservation)
    async def renew(
        reservation_id: Identifier, request: RenewRequest | None = None, node_id: NodeId = None
    ) -> Reservation:
        """Move the deadline of an unbound reservation."""
        return await hosts.renew(node_id, reservation_id, request or RenewRequest())

    @r.post("/api/v1/gpu/reservations/{reservation_id}/bind", response_model=Reservation)
    async def bind(reservation_id: Identifier, request: BindRequest, node_id: NodeId = None) -> Reservation:
        """Tie a reservation to the process or container that uses the memory; it stops expiring."""
        return await hosts.bind(node_id, reservation_id, request)

    @r.delete("/api/v1/gpu/reservations/{reservation_id}", status_code=204, response_class=Response)
    async def release(reservation_id: Identifier, node_id: NodeId = None) -> None:
        """Give the memory back. Idempotent: 404 only for an id that was never given out."""
        await hosts.release(node_id, reservation_id)

    @r.get("/api/v1/gpu/reservations", response_model=ReservationList)
    async def reservations(limit: Limit = 100, cursor: Cursor = None) -> ReservationList:
        """Living reservations of this host, oldest first."""
        return await hosts.local.reservations(limit, cursor)

    return r


def state_router(hosts: Hosts) -> APIRouter:
    """What is there, what would fit, and an operator's cordon."""
    r = new_router("gpu")

    @r.get("/api/v1/gpu/states", response_model=GpuStates)
    async def states(node_id: NodeId = None) -> GpuStates:
        """Every GPU and the RAM: total, used, reserved, foreign, available. `node_id=all`: every host."""
        return await hosts.states(node_id)

    @r.get("/api/v1/gpu/memory", response_model=MemoryAnswer)
    async def memory(node_id: NodeId = None) -> MemoryAnswer:
        """RAM and GPU memory with its trend, and when it would run out."""
        return await hosts.memory(node_id)

    @r.post("/api/v1/gpu/can-fit", response_model=CanFitAnswer)
    async def can_fit(request: CanFitRequest, node_id: NodeId = None) -> CanFitAnswer:
        """Whether a workload would fit, where, and what would if not. `gpu_count: 0` asks for RAM."""
        return await hosts.can_fit(node_id, request)

    @r.post("/api/v1/gpu/{index}/cordon", response_model=CordonAnswer)
    async def cordon(index: GpuIndex, node_id: NodeId = None) -> CordonAnswer:
        """Take a GPU out: it keeps what it has and gets nothing new."""
        return await hosts.cordon(node_id, index, True)

    @r.post("/api/v1/gpu/{index}/uncordon", response_model=CordonAnswer)
    async def uncordon(index: GpuIndex, node_id: NodeId = None) -> CordonAnswer:
        """Put a GPU back in."""
        return await hosts.cordon(node_id, index, False)

    return r


def yield_router(hosts: Hosts) -> APIRouter:
    """The owner of a host wants it back for a while."""
    r = new_router("yields")

    @r.get("/api/v1/gpu/yields", response_model=Yields)
    async def yields(node_id: NodeId = None) -> Yields:
        """What is lent back to the host's owner now, and what still holds memory there."""
        return await hosts.yields(node_id)

    @r.post("/api/v1/gpu/yields", response_model=Yields)
    async def begin(request: YieldRequest | None = None, node_id: NodeId = None) -> Yields:
        """Until they are taken back nothing new goes to these devices, and their instances are stopped."""
        return await hosts.yield_to_owner(node_id, request or YieldRequest())

    @r.post("/api/v1/gpu/yields/end", response_model=Yields)
    async def end(target: YieldTarget | None = None, node_id: NodeId = None) -> Yields:
        """Take devices back early; quiet hours that are on now end, too."""
        return await hosts.end_yield(node_id, target or YieldTarget())

    return r
