"""Daily hours in which a host belongs to its owner. Pure; times are the host's own wall clock, naive."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

_RANGE = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class QuietRange:
    """From `start` to before `end`, minutes after midnight; over midnight when `end` is the smaller."""

    start: int
    end: int

    def end_from(self, now: datetime) -> datetime | None:
        """When the range that holds `now` ends; None outside of it."""
        midnight = datetime.combine(now.date(), time())
        length = (self.end - self.start) % _DAY_MINUTES or _DAY_MINUTES
        for day in (-1, 0):
            begin = midnight + timedelta(days=day, minutes=self.start)
            end = begin + timedelta(minutes=length)
            if begin <= now < end:
                return end
        return None


def parse_quiet_hours(text: str) -> tuple[QuietRange, ...]:
    """`18:00-23:00, 22:30-06:00` as ranges; empty = none. ValueError with the rule otherwise."""
    return tuple(_range(part.strip()) for part in text.split(",") if part.strip())


def quiet_until(ranges: Sequence[QuietRange], now: datetime) -> datetime | None:
    """When the quiet time that holds `now` ends, ranges that touch taken as one; None outside of all."""
    end = _latest_end(ranges, now)
    while end is not None and end < now + timedelta(days=1):
        further = _latest_end(ranges, end)
        if further is None:
            break
        end = further
    return end


def _latest_end(ranges: Sequence[QuietRange], now: datetime) -> datetime | None:
    return max((end for each in ranges if (end := each.end_from(now)) is not None), default=None)


def _range(text: str) -> QuietRange:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no range such as 18:00-23:00")
    hour, minute, end_hour, end_minute = (int(part) for part in found.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if start >= _DAY_MINUTES or end > _DAY_MINUTES or max(minute, end_minute) > 59 or start == end:
        raise ValueError(f"{text!r} is no range of a day: 00:00 to 24:00, and not empty")
    return QuietRange(start, end)
