"""One thread for all readings, as NVML wants it; a daemon, because a stuck driver never gives it back."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Job = Callable[[], object]


class ReadingThread:
    """Runs calls one after another, off the event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """`call()` after those before it; its result or its error."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def job() -> None:
            result, error = None, None
            try:
                result = call()
            except Exception as raised:  # noqa: BLE001 - carried to the caller
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, error)

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return future

    def stop(self, last: Callable[[], object] | None = None, wait_seconds: float = 0) -> None:
        """End after the calls before, and `last`; a stuck one is waited for no longer than `wait_seconds`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if last is not None:
            self._jobs.put(last)
        self._jobs.put(None)
        if wait_seconds:
            thread.join(wait_seconds)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
