"""Which node accounts say far more than work needs, and how long each is kept out for it. Pure.

Seconds are those of one clock. A node that ends 3,500 jobs a second, half of what the whole queue does, sends
some 4,000 messages a second: an account may send five times as many for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MESSAGES_PER_SECOND = 20_000.0
BURST = 20_000.0
FIRST_HOLD_SECONDS = 60.0
LONGEST_HOLD_SECONDS = 3600.0


@dataclass(slots=True)
class _Account:
    total: int
    level: float
    at: float
    holds: int = 0


@dataclass
class Floods:
    """A token bucket for each account, filled and emptied by what the server has counted."""

    _accounts: dict[str, _Account] = field(default_factory=dict)

    def step(self, totals: Mapping[str, int], now: float) -> dict[str, float]:
        """From each account's messages so far: accounts to keep out now, and for how many seconds.

        Twice as long each time. An account is judged from the second time on that it is seen.
        """
        return {name: hold for name, total in totals.items() if (hold := self._hold(name, total, now))}

    def _hold(self, name: str, total: int, now: float) -> float:
        account = self._accounts.setdefault(name, _Account(total, BURST, now))
        sent = total - account.total if total >= account.total else total  # less: the server is a new one
        level = min(BURST, account.level + (now - account.at) * MESSAGES_PER_SECOND - sent)
        account.total, account.level, account.at = total, level, now
        if level >= 0:
            return 0.0
        account.level = BURST
        account.holds += 1
        return min(LONGEST_HOLD_SECONDS, FIRST_HOLD_SECONDS * 2.0 ** min(account.holds - 1, 10))
