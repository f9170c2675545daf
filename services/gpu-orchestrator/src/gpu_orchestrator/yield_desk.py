"""Where the owner of a host asks for it back, for a while or in daily quiet hours."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from compute_common.problems import invalid
from compute_common.schemas.gpu import MAX_YIELD_SECONDS, YieldRequest, YieldState
from gpu_orchestrator import views
from gpu_orchestrator.desk import ReservationDesk
from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import RAM
from gpu_orchestrator.orders import Orders, Source, Yield
from gpu_orchestrator.quiet_hours import QuietRange, quiet_until
from gpu_orchestrator.refusals import no_gpu, unknown_gpu


class YieldDesk:
    """Yields over the ledger of `desk`. Stopping the instances there is the vLLM orchestrator's part."""

    def __init__(
        self, desk: ReservationDesk, quiet: Sequence[QuietRange], clock: Callable[[], datetime]
    ) -> None:
        self._desk = desk
        self._quiet = tuple(quiet)
        self._clock = clock

    async def begin(self, request: YieldRequest) -> list[YieldState]:
        """Yield these devices; one that is yielded already gets the new deadline."""
        until = _deadline(request, self._clock())
        devices = await self._chosen(request.gpu_indices)
        new = [Yield(device.key, until) for device in devices]
        await self._desk.order("yielded", lambda orders: orders.with_yields(new))
        return await self.standing()

    async def end(self, gpu_indices: Sequence[int] | None) -> list[YieldState]:
        """Take devices back (None = all); what quiet hours are on now end with it."""
        if gpu_indices is None:
            keys = {each.device for each in self._desk.ledger.orders.yields}
        else:
            keys = {device.key for device in await self._chosen(gpu_indices)}
        skipped = self._quiet_end()

        def change(orders: Orders) -> Orders:
            left = orders.without_yields(keys)
            return Orders(left.cordoned, left.yields, skipped or orders.quiet_skipped_until)

        await self._desk.order("yield-ended", change)
        return await self.standing()

    async def standing(self) -> list[YieldState]:
        """Every yield that is on, with the reservations that still hold memory there."""
        view = await self._desk.view()
        ledger = self._desk.ledger
        return [
            YieldState(
                gpu_index=device.index,
                until=each.until,
                source=each.source.value,
                reservations=[views.reservation(entry, view) for entry in ledger.on(device)],
            )
            for each in ledger.orders.yields
            if (device := view.devices.get(each.device)) is not None
        ]

    async def follow_quiet_hours(self) -> None:
        """Begin today's quiet time on every device not yielded yet; its deadline ends it."""
        orders = self._desk.ledger.orders
        until = self._quiet_end()
        skipped = orders.quiet_skipped_until
        if until is None or self._desk.problem() or (skipped is not None and self._clock() < skipped):
            return
        taken = {each.device for each in orders.yields}
        new = [
            Yield(device.key, until, Source.QUIET_HOURS)
            for device in await self._chosen(None)
            if device.key not in taken
        ]
        if new:
            await self._desk.order("yielded", lambda now: now.with_yields(new))

    def _quiet_end(self) -> datetime | None:
        """When the quiet time that is on now ends; None outside of it."""
        wall = self._clock().astimezone().replace(tzinfo=None)
        end = quiet_until(self._quiet, wall)
        return None if end is None else end.astimezone(UTC)

    async def _chosen(self, gpu_indices: Sequence[int] | None) -> list[Device]:
        devices = (await self._desk.view()).devices
        by_index = {device.index: device for device in devices.values() if device.index is not None}
        if gpu_indices is None:
            return list(by_index.values()) or [devices[RAM]]
        if not gpu_indices:
            return [devices[RAM]]
        if not by_index:
            raise no_gpu()
        unknown = [index for index in gpu_indices if index not in by_index]
        if unknown:
            raise unknown_gpu(unknown, list(by_index))
        chosen = [by_index[index] for index in dict.fromkeys(gpu_indices)]
        keys = {device.key for device in chosen}
        return chosen + [d for d in by_index.values() if d.parent in keys and d.key not in keys]


def _deadline(request: YieldRequest, now: datetime) -> datetime | None:
    if request.for_seconds is not None and request.until is not None:
        raise invalid("send for_seconds or until, not both")
    if request.for_seconds is not None:
        return now + timedelta(seconds=request.for_seconds)
    if request.until is not None and not now < request.until <= now + timedelta(seconds=MAX_YIELD_SECONDS):
        raise invalid(f"until must lie ahead, at most {MAX_YIELD_SECONDS // 86_400} days")
    return request.until
