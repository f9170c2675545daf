"""A reservation as the ledger and its journal hold it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

RAM = "ram"


class State(StrEnum):
    """created → bound → released; or created → expired."""

    CREATED = "created"
    BOUND = "bound"
    RELEASED = "released"
    EXPIRED = "expired"

    @property
    def living(self) -> bool:
        return self in (State.CREATED, State.BOUND)


@dataclass(frozen=True, slots=True)
class Holder:
    """What a bound reservation belongs to: a process (and all of its session), or a container.

    `start_ticks` is the process's start in clock ticks since boot (field 22 of /proc/<pid>/stat): together
    with `boot_id` it tells a process from a later one with the same pid. `session_id` is set only when the
    process leads its session, so that a shell's whole session is never taken for an engine.
    """

    boot_id: str
    pid: int | None = None
    start_ticks: int | None = None
    session_id: int | None = None
    container_id: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One reservation: `reserved_mb` MiB on each of `devices` (a GPU's UUID, or `ram`)."""

    reservation_id: str
    devices: tuple[str, ...]
    gpu_indices: tuple[int, ...]
    reserved_mb: int
    timeout_seconds: float
    created_at: datetime
    expires_at: datetime | None
    state: State = State.CREATED
    owner: str | None = None
    model_name: str | None = None
    idempotency_key: str | None = None
    holder: Holder | None = None

    def renewed(self, now: datetime, timeout_seconds: float) -> "Entry":
        """The same, living on from `now`; a bound one has no deadline to move."""
        if self.state is State.BOUND:
            return replace(self, timeout_seconds=timeout_seconds)
        expires_at = now + timedelta(seconds=timeout_seconds)
        return replace(self, timeout_seconds=timeout_seconds, expires_at=expires_at)

    def bound(self, holder: Holder) -> "Entry":
        return replace(self, state=State.BOUND, holder=holder, expires_at=None)

    def ended(self, state: State) -> "Entry":
        return replace(self, state=state, expires_at=None)
