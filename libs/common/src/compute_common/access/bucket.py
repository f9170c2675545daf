"""A token bucket: so many requests a second on average, a burst at once."""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Full at first; time is handed in."""

    per_s: float
    burst: float
    level: float
    at: float

    @classmethod
    def full(cls, per_s: float, now: float, burst_seconds: float = 2.0) -> "Bucket":
        burst = max(1.0, per_s * burst_seconds)
        return cls(per_s, burst, burst, now)

    def take(self, now: float) -> float:
        """0 when one more may pass now; else the seconds until it may."""
        self.level = min(self.burst, self.level + max(0.0, now - self.at) * self.per_s)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.per_s
