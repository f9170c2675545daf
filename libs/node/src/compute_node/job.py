"""What a handler sees of a work item, and how it says that an item cannot be done."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Report = Callable[[Any], Awaitable[None]]


class WorkError(Exception):
    """Raise it in a handler: the item failed. With `retryable=False` it is not tried again anywhere."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


async def _nowhere(_progress: Any) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a work item."""

    work_id: str
    work_type: str
    attempt: int
    payload: dict[str, Any]
    model_name: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 300.0
    traceparent: str | None = None  # W3C trace context of this attempt, to be sent along with requests
    _report: Report = _nowhere

    async def progress(self, progress: Any) -> None:
        """Tell how far it is (any JSON value); it also renews the lease."""
        await self._report(progress)


Handler = Callable[[Job], Awaitable[Any]]
