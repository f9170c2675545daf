"""Every run there is: in memory, on disk, and told to those who watch."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from benchmark_runner.feed import Feed
from benchmark_runner.store import RunStore
from compute_common.enums import BenchmarkStatus
from compute_common.problems import not_found
from compute_common.schemas.benchmark import Benchmark, BenchmarkProgress, BenchmarkProgressEvent, Cell
from compute_common.times import utc_now

log = structlog.get_logger("records")
TEMPORARY = "temporary_instance"  # in the environment of a run that has an instance of its own to stop
Told = Callable[[BenchmarkProgressEvent], None]
Finished = Callable[[Benchmark], Awaitable[None]]


class Records:
    """`told(event)` hears of every change, `finished(run)` of every end; at most `keep` ended runs stay."""

    def __init__(self, store: RunStore, keep: int, told: Told, finished: Finished) -> None:
        self.store = store
        self.feed = Feed()
        self.runs: dict[str, Benchmark] = {}
        self._keep = keep
        self._told = told
        self._finished = finished
        self._ended: dict[str, asyncio.Event] = {}

    async def load(self) -> list[Benchmark]:
        """What lies on disk, oldest first; those that have not ended can be waited for again."""
        for run in await asyncio.to_thread(self.store.load):
            self.runs[run.benchmark_id] = run
            if not run.status.final:
                self._ended[run.benchmark_id] = asyncio.Event()
        await self._retain()
        return list(self.runs.values())

    def find(self, benchmark_id: str) -> Benchmark:
        run = self.runs.get(benchmark_id)
        if run is None:
            raise not_found("unknown-benchmark", f"no benchmark has the id '{benchmark_id}'")
        return run

    async def wait(self, benchmark_id: str) -> Benchmark:
        """The run once it has ended."""
        if not self.runs[benchmark_id].status.final:
            await self._ended[benchmark_id].wait()
        return self.runs[benchmark_id]

    def event(self, benchmark_id: str, cell: Cell | None = None) -> BenchmarkProgressEvent:
        """Where a run stands."""
        run = self.runs[benchmark_id]
        return BenchmarkProgressEvent(
            benchmark_id=benchmark_id,
            status=run.status,
            progress=run.progress,
            cell=cell,
            error=run.error,
            timestamp=utc_now(),
        )

    async def add(self, run: Benchmark) -> None:
        self._ended[run.benchmark_id] = asyncio.Event()
        await self.keep(run)

    async def update(self, benchmark_id: str, **fields: object) -> None:
        """Change a run that has not ended, on disk too; one that has stays as it is."""
        run = self.runs[benchmark_id]
        if not run.status.final:
            await self.keep(run.model_copy(update=fields))
            self._tell(self.event(benchmark_id))

    def progress(self, benchmark_id: str, progress: BenchmarkProgress) -> None:
        """Where it stands, told but not written."""
        run = self.runs[benchmark_id]
        if not run.status.final:
            self.runs[benchmark_id] = run.model_copy(update={"progress": progress})
            self._tell(self.event(benchmark_id))

    async def add_cell(self, benchmark_id: str, cell: Cell, progress: BenchmarkProgress) -> None:
        run = self.runs[benchmark_id]
        if not run.status.final:
            await self.keep(run.model_copy(update={"cells": [*run.cells, cell], "progress": progress}))
            self._tell(self.event(benchmark_id, cell))

    async def end(self, benchmark_id: str, status: BenchmarkStatus, error: str | None) -> None:
        """The first end of a run stays its end."""
        run = self.runs[benchmark_id]
        if run.status.final:
            return
        quiet = {"current": None, "phase": None, "requests_done": None, "requests_total": None}
        progress = run.progress.model_copy(update=quiet)
        ended = run.model_copy(
            update={"status": status, "error": error, "finished_at": utc_now(), "progress": progress}
        )
        await self.keep(ended)
        self._ended.pop(benchmark_id).set()
        self._tell(self.event(benchmark_id))
        await self._finished(ended)
        await self._retain()

    async def keep(self, run: Benchmark) -> None:
        """Into memory and onto the disk; a disk that refuses is named in the log."""
        self.runs[run.benchmark_id] = run
        try:
            await asyncio.to_thread(self.store.save, run)
        except OSError as error:
            log.error("result not written", benchmark_id=run.benchmark_id, reason=type(error).__name__)

    def _tell(self, event: BenchmarkProgressEvent) -> None:
        self.feed.publish(event)
        self._told(event)

    async def _retain(self) -> None:
        """Forget the oldest ended runs beyond `keep`; one that still has an instance to stop stays."""
        ended = [r for r in self.runs.values() if r.status.final and TEMPORARY not in r.environment]
        for run in ended[: max(0, len(ended) - self._keep)]:
            del self.runs[run.benchmark_id]
            await asyncio.to_thread(self.store.remove, run.benchmark_id)
