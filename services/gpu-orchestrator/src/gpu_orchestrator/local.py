"""What this host answers, the same over HTTP and over NATS."""

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
from compute_common.times import utc_now
from gpu_orchestrator import views
from gpu_orchestrator.desk import ReservationDesk
from gpu_orchestrator.entries import Entry
from gpu_orchestrator.memory_watch import MemoryWatch
from gpu_orchestrator.yield_desk import YieldDesk


class LocalHost:
    """The desk in wire records."""

    def __init__(self, node_id: str, desk: ReservationDesk, yields: YieldDesk, watch: MemoryWatch) -> None:
        self.node_id = node_id
        self._desk = desk
        self._yields = yields
        self._watch = watch

    async def reserve(self, request: ReserveRequest) -> Reservation:
        return self._reservation(await self._desk.reserve(request))

    async def renew(self, reservation_id: str, request: RenewRequest) -> Reservation:
        return self._reservation(await self._desk.renew(reservation_id, request))

    async def bind(self, reservation_id: str, request: BindRequest) -> Reservation:
        return self._reservation(await self._desk.bind(reservation_id, request))

    async def release(self, reservation_id: str) -> None:
        await self._desk.release(reservation_id)

    async def can_fit(self, request: CanFitRequest) -> CanFitAnswer:
        fit = await self._desk.can_fit(request.required_mb, request.gpu_count, request.prefer_nvlink)
        return CanFitAnswer(
            fits=fit.fits,
            gpu_indices=list(fit.gpu_indices),
            reason=fit.reason,
            alternatives=list(fit.alternatives),
            linked_pairs=[list(pair) for pair in fit.linked],
            shortfall=list(fit.shortfall),
        )

    def _reservation(self, entry: Entry) -> Reservation:
        return views.reservation(entry, self._desk.observer.view)

    async def states(self) -> GpuStates:
        view = await self._desk.view()
        return views.states(self.node_id, self._desk.ledger, view, utc_now())

    async def memory(self) -> MemoryAnswer:
        return self._watch.answer(await self._desk.view())

    async def cordon(self, index: int, cordoned: bool) -> CordonAnswer:
        await self._desk.cordon(index, cordoned)
        return CordonAnswer(node_id=self.node_id, index=index, cordoned=cordoned)

    async def yield_to_owner(self, request: YieldRequest) -> Yields:
        found = await self._yields.begin(request)
        return Yields(node_id=self.node_id, yields=found, count=len(found))

    async def end_yield(self, target: YieldTarget) -> Yields:
        found = await self._yields.end(target.gpu_indices)
        return Yields(node_id=self.node_id, yields=found, count=len(found))

    async def yields(self) -> Yields:
        found = await self._yields.standing()
        return Yields(node_id=self.node_id, yields=found, count=len(found))

    async def reservations(self, limit: int, cursor: str | None) -> ReservationList:
        """Living reservations, oldest first; the cursor is the last id of the page before."""
        await self._desk.view()
        entries = sorted(self._desk.ledger.entries.values(), key=lambda e: (e.created_at, e.reservation_id))
        ids = [entry.reservation_id for entry in entries]
        start = ids.index(cursor) + 1 if cursor in ids else 0
        page = entries[start : start + limit]
        more = start + limit < len(entries)
        return ReservationList(
            reservations=[self._reservation(entry) for entry in page],
            count=len(page),
            next_cursor=page[-1].reservation_id if more else None,
        )
