"""Where reservations are asked for: observe, decide in the pure ledger, write, then answer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog

from compute_common.ids import new_id
from compute_common.problems import conflict, invalid, not_found
from compute_common.schemas.gpu import BindRequest, RenewRequest, ReserveRequest
from gpu_orchestrator import processes
from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import Entry
from gpu_orchestrator.fitting import Fit, can_fit
from gpu_orchestrator.group_commit import GroupCommit, journal_unusable
from gpu_orchestrator.journal import Journal, JournalUnusableError
from gpu_orchestrator.ledger import Ask, Ledger
from gpu_orchestrator.observer import Observer, View
from gpu_orchestrator.orders import Orders

log = structlog.get_logger("ledger")
Changed = Callable[[str, Sequence[Entry]], Awaitable[None]]


class ReservationDesk:
    """The ledger with its eyes and its memory. `changed(event, entries)` is told of every change.

    Between a decision and its place in the ledger nothing awaits, so the event loop is the lock.
    """

    def __init__(
        self,
        journal: Journal,
        observer: Observer,
        default_timeout_seconds: float,
        clock: Callable[[], datetime],
        changed: Changed,
    ) -> None:
        self._journal = journal
        self._commit = GroupCommit(journal)
        self._default_timeout = default_timeout_seconds
        self._clock = clock
        self._changed = changed
        self.observer = observer
        self.ledger = Ledger()
        self._ordering = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self.unusable: str | None = "not opened yet"

    # --- life

    async def open(self) -> None:
        """Replay the journal; when it cannot be read, say so and refuse instead of starting empty."""
        try:
            recovered = await self._commit.call(self._journal.open)
        except JournalUnusableError as error:
            if str(error) != self.unusable:
                log.error("journal unusable", detail=str(error))
            self.unusable = str(error)
        else:
            self.ledger = Ledger(recovered.entries, recovered.orders)
            self.unusable = None
            log.info("journal replayed", reservations=len(recovered.entries))

    async def close(self) -> None:
        if self._background:
            await asyncio.wait(self._background, timeout=5)
        await self._commit.close()
        await asyncio.to_thread(self.observer.close)

    def problem(self) -> str | None:
        """Why nothing can be promised now, or None."""
        return self.unusable or self._commit.failure

    # --- what clients ask

    async def reserve(self, request: ReserveRequest) -> Entry:
        self._require_journal()
        view = await self.observer.fresh(self._living())
        now = self._clock()
        self._expire(now)
        ask = Ask(
            gpu_indices=tuple(request.gpu_indices),
            required_mb=request.required_mb,
            timeout_seconds=request.timeout_seconds or self._default_timeout,
            owner=request.owner,
            model_name=request.model_name,
            idempotency_key=request.idempotency_key,
        )
        reservation_id = new_id("res")
        entry = self.ledger.reserve(ask, view.devices, now, reservation_id)
        if entry.reservation_id != reservation_id:
            await self._commit.write([])  # answered again only once what it repeats is on disk
            return entry
        try:
            await self._commit.write([entry])
        except Exception:
            self.ledger.entries.pop(entry.reservation_id, None)
            raise
        await self._changed("reserved", [entry])
        return entry

    async def renew(self, reservation_id: str, request: RenewRequest) -> Entry:
        await self._require_living(reservation_id)
        self._require_owner(reservation_id, request.owner)
        entry = self.ledger.renew(reservation_id, self._clock(), request.timeout_seconds)
        await self._commit.write([entry])
        await self._changed("renewed", [entry])
        return entry

    async def bind(self, reservation_id: str, request: BindRequest) -> Entry:
        if (request.pid is None) == (request.container_id is None):
            raise invalid("send exactly one of pid and container_id")
        await self._require_living(reservation_id)
        self._require_owner(reservation_id, request.owner)
        if request.pid is not None:
            holder = await asyncio.to_thread(processes.holder_of_pid, request.pid, request.start_time)
        else:
            holder = await asyncio.to_thread(processes.holder_of_container, str(request.container_id))
        await self._require_living(reservation_id)  # it may have ended while the process was looked up
        entry = self.ledger.bind(reservation_id, holder)
        await self._commit.write([entry])
        await self.observer.observe(self._living())
        await self._changed("bound", [entry])
        return entry

    async def release(self, reservation_id: str) -> None:
        """Idempotent: 404 only for an id that was never given out."""
        self._require_journal()
        if reservation_id in self.ledger.entries:
            entry = self.ledger.release(reservation_id)
            await self._commit.write([entry])
            await self._changed("released", [entry])
        elif not await self._commit.call(lambda: self._journal.issued(reservation_id)):
            raise not_found("unknown-reservation", f"no reservation '{reservation_id}' was ever given out")

    async def can_fit(self, required_mb: int, gpu_count: int, prefer_nvlink: bool) -> Fit:
        view = await self.view()
        return can_fit(self.ledger, view.devices, required_mb, gpu_count, prefer_nvlink)

    async def cordon(self, index: int, cordoned: bool) -> Device:
        """Take a GPU out, or back in; 404 when there is no such GPU."""
        view = await self.view()
        device = next((d for d in view.devices.values() if d.index == index), None)
        if device is None:
            raise not_found("unknown-gpu", f"this host has no GPU {index}")
        key = device.key
        event = "cordoned" if cordoned else "uncordoned"
        await self.order(event, lambda orders: orders.with_cordon(key, cordoned))
        return device

    async def order(self, event: str, change: Callable[[Orders], Orders]) -> None:
        """Change the standing orders, on disk before it returns; nothing changes when that fails."""
        self._require_journal()
        async with self._ordering:
            before = self.ledger.orders
            self.ledger.orders = after = change(before)
            try:
                await self._commit.write([], after)
            except Exception:
                if self.ledger.orders is after:
                    self.ledger.orders = before
                raise
        await self._changed(event, [])

    async def view(self) -> View:
        """A look at most a quarter of a second old, with the late already expired."""
        view = await self.observer.fresh(self._living())
        self._expire(self._clock())
        return view

    # --- what time does

    async def look(self) -> View:
        """Observe, end what is late or has nobody left, and repair the journal or try it again."""
        if self.unusable is not None:
            await self.open()
        view = await self.observer.observe(self._living())
        self._expire(self._clock())
        orphans = [rid for rid, pids in view.members.items() if not pids and rid in self.ledger.entries]
        if orphans and self.unusable is None:
            ended = [self.ledger.release(rid) for rid in orphans]
            self._later("released", ended)
        if self._commit.failure is not None and self.unusable is None:
            await self._repair()
        return view

    def _expire(self, now: datetime) -> None:
        late = self.ledger.expire(now)
        if late:
            self._later("expired", late)
        if self.ledger.end_yields(now):
            self._later("yield-ended", [], self.ledger.orders)

    def _later(self, event: str, entries: Sequence[Entry], orders: Orders | None = None) -> None:
        """Write and tell in the background: what ended by its deadline ends after a crash as well."""

        async def write() -> None:
            with contextlib.suppress(Exception):  # the commit remembers its failure and is repaired
                await self._commit.write(entries, orders)
            await self._changed(event, entries)

        task = asyncio.create_task(write())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _repair(self) -> None:
        living, orders = self._living(), self.ledger.orders
        try:
            await self._commit.call(lambda: self._journal.rewrite(living, orders))
        except Exception as error:  # noqa: BLE001  (tried again at the next look)
            log.warning("journal still unusable", reason=type(error).__name__)
        else:
            self._commit.failure = None
            log.info("journal repaired", reservations=len(living))

    # --- parts

    def _living(self) -> list[Entry]:
        return list(self.ledger.entries.values())

    def _require_journal(self) -> None:
        problem = self.problem()
        if problem is not None:
            raise journal_unusable(problem)

    def _require_owner(self, reservation_id: str, owner: str | None) -> None:
        """409 when the request names an owner and the reservation is another's."""
        held = self.ledger.find(reservation_id).owner
        if owner is not None and owner != held:
            raise conflict(
                "not-yours",
                f"reservation '{reservation_id}' belongs to '{held or 'nobody named'}'; reserve one",
            )

    async def _require_living(self, reservation_id: str) -> None:
        """404 for an id never given out, 409 for one that has ended."""
        self._require_journal()
        self._expire(self._clock())
        if reservation_id in self.ledger.entries:
            return
        if await self._commit.call(lambda: self._journal.issued(reservation_id)):
            raise conflict(
                "reservation-ended",
                f"reservation '{reservation_id}' was released or has expired; reserve anew",
            )
        raise not_found("unknown-reservation", f"no reservation '{reservation_id}' was ever given out")
