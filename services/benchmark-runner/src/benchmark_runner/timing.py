"""What one request took, and the words for it. Times are seconds of one monotonic clock.

TTFT = first non-empty chunk − send. ITL = the raw gaps between chunks. E2E = last non-empty chunk − send.
TPOT = (E2E − TTFT) / (output tokens − 1). Tokens come from the server's `usage`, never from counting chunks.
In an open loop "send" is the moment the request was scheduled for, so that waiting to be sent counts too.
"""

from dataclasses import dataclass
from itertools import pairwise

UNAUTHORISED = "unauthorised"  # 401 and 403


def http_error(status: int) -> str:
    """The error of an answer that is no success."""
    return UNAUTHORISED if status in (401, 403) else f"http-{status}"


@dataclass(frozen=True, slots=True)
class RequestTiming:
    """`due`: when it should have been sent; `chunks`: arrival of each chunk that carried text."""

    due: float
    sent: float
    ended: float
    chunks: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    scheduled: bool = False  # of an open loop
    repeat: int = 0

    @property
    def ok(self) -> bool:
        return self.error is None and bool(self.chunks)

    @property
    def begun(self) -> float:
        """From when the user waits."""
        return self.due if self.scheduled else self.sent

    @property
    def lateness(self) -> float:
        return max(0.0, self.sent - self.due)

    @property
    def ttft(self) -> float:
        return self.chunks[0] - self.begun

    @property
    def e2e(self) -> float:
        return self.chunks[-1] - self.begun

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in pairwise(self.chunks)]

    @property
    def tpot(self) -> float | None:
        """None for a single token, or where the server did not say how many there were."""
        if self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.e2e - self.ttft) / (self.output_tokens - 1)
