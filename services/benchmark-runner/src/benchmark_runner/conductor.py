"""Takes runs in and lets one after another be measured; ends them when asked."""

import asyncio
import contextlib

import structlog

from benchmark_runner.matrix import cells
from benchmark_runner.measuring import INTERRUPTED, Meter
from benchmark_runner.records import TEMPORARY, Records
from compute_common.enums import BenchmarkStatus
from compute_common.ids import new_id
from compute_common.problems import Problem
from compute_common.schemas.benchmark import Benchmark, BenchmarkProgress, BenchmarkRequest
from compute_common.tasks import end_tasks
from compute_common.times import utc_now

log = structlog.get_logger("benchmark")
STOP_SECONDS = 4.0
CANCEL_SECONDS = 8.0


class Conductor:
    def __init__(self, records: Records, meter: Meter, queue_limit: int) -> None:
        self.records = records
        self._meter = meter
        self._queue_limit = queue_limit
        self._waiting: list[str] = []
        self._wake = asyncio.Event()
        self._current: tuple[str, asyncio.Task[None]] | None = None
        self._worker: asyncio.Task[None] | None = None

    # --- life

    async def open(self) -> None:
        """Reload what was measured. Runs under way are failed, with their cells; queued ones wait on."""
        for run in await self.records.load():
            if run.status is BenchmarkStatus.QUEUED:
                self._waiting.append(run.benchmark_id)
            elif not run.status.final:
                await self.records.end(run.benchmark_id, BenchmarkStatus.FAILED, INTERRUPTED)
        self._wake.set()
        self._worker = asyncio.create_task(self._work(), name="benchmark-worker")

    async def close(self) -> None:
        """End the run under way, marked interrupted, and stop what it started; queued runs stay queued."""
        self._waiting.clear()  # they are on disk
        if self._current is not None:
            self._current[1].cancel()
            await asyncio.wait([self._current[1]], timeout=STOP_SECONDS)
        await end_tasks([self._worker])
        for run in list(self.records.runs.values()):
            if not run.status.final and run.status is not BenchmarkStatus.QUEUED:
                await self.records.end(run.benchmark_id, BenchmarkStatus.FAILED, INTERRUPTED)
        self.records.feed.close()

    async def stop_leftovers(self) -> None:
        """Stop temporary instances of ended runs that a crash left behind."""
        for run in list(self.records.runs.values()):
            name = run.environment.get(TEMPORARY)
            if run.status.final and isinstance(name, str):
                await self._meter.stop_temporary(run.benchmark_id, name)

    # --- what clients ask

    async def accept(self, request: BenchmarkRequest) -> Benchmark:
        """Queue a run. What can be known to fail is refused now: 403, 404, 409, 422; a full queue is 429."""
        planned = len(cells(request))
        if len(self._waiting) >= self._queue_limit:
            raise Problem(
                429,
                "queue-full",
                "too many runs wait; try again when one has ended",
                headers={"Retry-After": "30"},
            )
        target = await self._meter.check(request)
        run = Benchmark(
            benchmark_id=new_id("bench"),
            status=BenchmarkStatus.QUEUED,
            model_name=request.model_name,
            instance_name=target.instance_name if target else None,
            node_id=target.node_id if target else None,
            engine=target.engine if target else request.engine,
            progress=BenchmarkProgress(cells_done=0, cells_total=planned, percent=0.0),
            request=request.model_dump(mode="json", exclude_none=True),
            created_at=utc_now(),
        )
        await self.records.add(run)
        self._waiting.append(run.benchmark_id)
        self._wake.set()
        return run

    async def cancel(self, benchmark_id: str) -> Benchmark:
        """End a run; its finished cells stay, and what the one under way had, marked as partial.

        One that has already ended is answered as it is.
        """
        run = self.records.find(benchmark_id)
        if run.status.final:
            return run
        if benchmark_id in self._waiting:
            self._waiting.remove(benchmark_id)
        elif self._current is not None and self._current[0] == benchmark_id:
            self._meter.cancelled.add(benchmark_id)
            self._current[1].cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self.records.wait(benchmark_id)
        await self.records.end(benchmark_id, BenchmarkStatus.CANCELLED, "cancelled")
        return self.records.runs[benchmark_id]

    # --- one run after another

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._run_one(self._waiting.pop(0))

    async def _run_one(self, benchmark_id: str) -> None:
        task = asyncio.create_task(self._meter.measure(benchmark_id), name=benchmark_id)
        self._current = (benchmark_id, task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            self._current = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("benchmark failed", benchmark_id=benchmark_id, exc_info=error)
            reason = "the runner failed; its log says why"
            await self.records.end(benchmark_id, BenchmarkStatus.FAILED, reason)
