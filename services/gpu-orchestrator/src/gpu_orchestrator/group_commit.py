"""Many writers, one synced commit: what arrives while one runs goes into the next."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from compute_common.problems import unavailable
from gpu_orchestrator.entries import Entry
from gpu_orchestrator.journal import Journal
from gpu_orchestrator.orders import Orders

T = TypeVar("T")


class GroupCommit:
    """The journal in its own thread. `write` returns when the entries are on disk, or raises 503."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = _thread()
        self._waiting: list[tuple[Sequence[Entry], Orders | None, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self.failure: str | None = None

    async def call(self, work: Callable[[], T]) -> T:
        """Run something else of the journal in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def write(self, entries: Sequence[Entry], orders: Orders | None = None) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, orders, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="group-commit")
        await done

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            entries = [entry for part, _, _ in batch for entry in part]
            orders = next((given for _, given, _ in reversed(batch) if given is not None), None)
            try:
                await self.call(lambda e=entries, o=orders: self._journal.write(e, o))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001  (whatever it is, nobody may wait for ever)
                self.failure = f"the journal could not be written ({type(error).__name__}); is the disk full?"
            for _, _, done in batch:
                if done.done():
                    continue
                if self.failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(journal_unusable(self.failure))

    async def close(self) -> None:
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=5)
        await self.call(self._journal.close)
        self._thread.shutdown(wait=False)
        self._thread = _thread()


def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="journal")


def journal_unusable(detail: str) -> Exception:
    """503: nothing is promised that is not on disk."""
    return unavailable("journal-unusable", f"{detail}; nothing is reserved or released meanwhile")
