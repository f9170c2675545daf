"""What an operator ordered about devices: cordons without end, and yields that end by themselves. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from compute_common.problems import Problem, conflict
from compute_common.times import rfc3339
from gpu_orchestrator.devices import Device


class Source(StrEnum):
    """Who took the device: a person, or the node's daily quiet hours."""

    OPERATOR = "operator"
    QUIET_HOURS = "quiet hours"


@dataclass(frozen=True, slots=True)
class Yield:
    """A device lent back to the host's owner until `until` (None: until it is ended by hand)."""

    device: str
    until: datetime | None
    source: Source = Source.OPERATOR

    def over(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now

    @property
    def reason(self) -> str:
        end = "until its owner ends it" if self.until is None else f"until {rfc3339(self.until)}"
        return f"yielded to its owner ({self.source}) {end}"


@dataclass(frozen=True, slots=True)
class Orders:
    """All standing orders. `quiet_skipped_until`: an operator ended today's quiet hours early."""

    cordoned: frozenset[str] = frozenset()
    yields: tuple[Yield, ...] = ()
    quiet_skipped_until: datetime | None = None

    @property
    def out(self) -> frozenset[str]:
        """The keys of devices that take nothing new."""
        return self.cordoned | {each.device for each in self.yields}

    def yield_of(self, device: str) -> Yield | None:
        return next((each for each in self.yields if each.device == device), None)

    def with_cordon(self, device: str, cordoned: bool) -> "Orders":
        keys = self.cordoned | {device} if cordoned else self.cordoned - {device}
        return replace(self, cordoned=keys)

    def with_yields(self, new: Iterable[Yield]) -> "Orders":
        """`new` takes the place of what stood for the same devices."""
        added = tuple(new)
        kept = self.without_yields({each.device for each in added}).yields
        return replace(self, yields=(*kept, *added))

    def without_yields(self, devices: Iterable[str]) -> "Orders":
        gone = set(devices)
        return replace(self, yields=tuple(each for each in self.yields if each.device not in gone))

    def at(self, now: datetime) -> "Orders":
        """Without the yields that are over."""
        if not any(each.over(now) for each in self.yields):
            return self
        return replace(self, yields=tuple(each for each in self.yields if not each.over(now)))


def yielded(devices: Sequence[tuple[Device, Yield]]) -> Problem:
    """409: the host's owner has these devices now."""
    reasons = "; ".join(f"{device.label} is {each.reason}" for device, each in devices)
    return conflict(
        "yielded",
        f"{reasons}: it takes no new reservation. `compute yield NODE --end` takes it back early",
        devices=[
            {
                "gpu_index": device.index,
                "until": None if each.until is None else rfc3339(each.until),
                "source": each.source.value,
            }
            for device, each in devices
        ],
    )
