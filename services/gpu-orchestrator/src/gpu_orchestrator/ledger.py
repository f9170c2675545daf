"""The reservation ledger: pure, in memory, one decision at a time.

Times, ids and observed memory are passed in. A method either returns what changed or raises `Problem` and
changes nothing. Only living reservations are held; ended ones are the journal's business.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from compute_common.problems import Problem, conflict, invalid, not_found
from gpu_orchestrator.devices import Balance, Device, balance
from gpu_orchestrator.entries import RAM, Entry, Holder, State
from gpu_orchestrator.orders import Orders, Yield, yielded
from gpu_orchestrator.refusals import no_gpu, no_room, not_usable, unknown_gpu

Devices = Mapping[str, Device]


@dataclass(frozen=True, slots=True)
class Ask:
    """A reservation as asked for: `required_mb` MiB on each GPU, or of host RAM when there is none."""

    gpu_indices: tuple[int, ...]
    required_mb: int
    timeout_seconds: float
    owner: str | None = None
    model_name: str | None = None
    idempotency_key: str | None = None


class Ledger:
    """Living reservations of one host, and an operator's standing orders about its devices."""

    def __init__(self, entries: Iterable[Entry] = (), orders: Orders = Orders()) -> None:  # noqa: B008  (frozen)
        self.entries: dict[str, Entry] = {entry.reservation_id: entry for entry in entries}
        self.orders = orders

    @property
    def cordoned(self) -> frozenset[str]:
        """Devices that take nothing new on somebody's order, by cordon or by yield."""
        return self.orders.out

    # --- questions

    def on(self, device: Device) -> list[Entry]:
        """The living reservations on one device (or on what shares its memory), oldest first."""
        return [entry for entry in self.entries.values() if device.shares(entry)]

    def balance(self, device: Device) -> Balance:
        """Where its memory goes; nothing of a cordoned or yielded device is available."""
        sums = balance(device, self.entries.values())
        return replace(sums, available_mb=0) if self.is_out(device) else sums

    def is_out(self, device: Device) -> bool:
        """Whether it, or the card that it is a slice of, takes nothing new on somebody's order."""
        return device.key in self.cordoned or device.parent in self.cordoned

    def find(self, reservation_id: str) -> Entry:
        """A living reservation; 404 otherwise."""
        entry = self.entries.get(reservation_id)
        if entry is None:
            raise not_found("unknown-reservation", f"no living reservation has the id '{reservation_id}'")
        return entry

    # --- decisions

    def reserve(self, ask: Ask, devices: Devices, now: datetime, reservation_id: str) -> Entry:
        """All of the asked devices or none.

        The same idempotency key with the same body answers the living reservation it made; with another body
        it is 409. A device that is unknown, cordoned, unhealthy or too full is 409 with the reason.
        """
        repeated = self._repeated(ask)
        if repeated is not None:
            return repeated
        targets = self.targets(ask.gpu_indices, devices)
        short = [
            (device, free) for device in targets if (free := self._room(device, targets)) < ask.required_mb
        ]
        if short:
            raise no_room(ask.required_mb, targets, short, self._available(devices))
        entry = Entry(
            reservation_id=reservation_id,
            devices=tuple(device.key for device in targets),
            gpu_indices=ask.gpu_indices,
            reserved_mb=ask.required_mb,
            timeout_seconds=ask.timeout_seconds,
            created_at=now,
            expires_at=now + timedelta(seconds=ask.timeout_seconds),
            owner=ask.owner,
            model_name=ask.model_name,
            idempotency_key=ask.idempotency_key,
        )
        self.entries[reservation_id] = entry
        return entry

    def renew(self, reservation_id: str, now: datetime, timeout_seconds: float | None) -> Entry:
        """Move the deadline to `now` + timeout (by default the one it was made with)."""
        entry = self.find(reservation_id)
        return self._put(entry.renewed(now, timeout_seconds or entry.timeout_seconds))

    def bind(self, reservation_id: str, holder: Holder) -> Entry:
        """Tie it to what uses the memory; it stops expiring. Another holder than the first is 409."""
        entry = self.find(reservation_id)
        if entry.holder is not None and entry.holder != holder:
            raise conflict(
                "already-bound",
                f"reservation '{reservation_id}' is bound to something else; release it and reserve anew",
            )
        return self._put(entry.bound(holder))

    def release(self, reservation_id: str) -> Entry:
        """Give the memory back; 404 when it is not living."""
        entry = self.find(reservation_id)
        del self.entries[reservation_id]
        return entry.ended(State.RELEASED)

    def expire(self, now: datetime) -> list[Entry]:
        """End the unbound whose deadline has come."""
        late = [e for e in self.entries.values() if e.expires_at is not None and e.expires_at <= now]
        for entry in late:
            del self.entries[entry.reservation_id]
        return [entry.ended(State.EXPIRED) for entry in late]

    def end_yields(self, now: datetime) -> list[Yield]:
        """Take back the devices whose deadline has come."""
        before, self.orders = self.orders, self.orders.at(now)
        return [each for each in before.yields if each not in self.orders.yields]

    # --- parts

    def targets(self, gpu_indices: Sequence[int], devices: Devices) -> list[Device]:
        """The devices asked for, each of them usable; 422 on a repeated index, else 409 with the reason."""
        if not gpu_indices:
            self._require_usable([devices[RAM]])
            return [devices[RAM]]
        if len(set(gpu_indices)) != len(gpu_indices):
            raise invalid("gpu_indices names a GPU twice; name each once", cause="duplicate-gpu")
        by_index = {device.index: device for device in devices.values() if device.index is not None}
        if not by_index:
            raise no_gpu()
        unknown = [index for index in gpu_indices if index not in by_index]
        if unknown:
            raise unknown_gpu(unknown, list(by_index))
        chosen = [by_index[index] for index in gpu_indices]
        self._require_usable(chosen)
        return chosen

    def usable(self, device: Device) -> bool:
        return not self.is_out(device) and device.health == "ok"

    def _require_usable(self, devices: Sequence[Device]) -> None:
        taken = [(d, each) for d in devices if (each := self.orders.yield_of(d.key)) is not None]
        if taken:
            raise yielded(taken)
        out = [device for device in devices if not self.usable(device)]
        if out:
            raise not_usable([(d, "cordoned" if self.is_out(d) else d.health) for d in out])

    def _room(self, device: Device, targets: Sequence[Device]) -> int:
        """What each of `targets` may take of this one's memory, MiB; several may draw on the same."""
        draws = sum(1 for each in targets if each.key == device.key or each.key in device.pool)
        return self.balance(device).available_mb // draws

    def _available(self, devices: Devices) -> dict[int, int]:
        return {
            device.index: self.balance(device).available_mb
            for device in devices.values()
            if device.index is not None and self.usable(device)
        }

    def _repeated(self, ask: Ask) -> Entry | None:
        if ask.idempotency_key is None:
            return None
        for entry in self.entries.values():
            if entry.idempotency_key == ask.idempotency_key:
                if _same(entry, ask):
                    return entry
                raise _key_reused(entry)
        return None

    def _put(self, entry: Entry) -> Entry:
        self.entries[entry.reservation_id] = entry
        return entry


def _same(entry: Entry, ask: Ask) -> bool:
    return (entry.gpu_indices, entry.reserved_mb, entry.owner, entry.model_name) == (
        ask.gpu_indices,
        ask.required_mb,
        ask.owner,
        ask.model_name,
    )


def _key_reused(entry: Entry) -> Problem:
    return conflict(
        "idempotency-key-reused",
        f"this idempotency_key made reservation '{entry.reservation_id}' from another request; use a new key",
        reservation_id=entry.reservation_id,
    )
