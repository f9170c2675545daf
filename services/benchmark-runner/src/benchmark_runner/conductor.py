"""Takes runs in, measures one at a time, keeps every cell the moment it is done."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Sequence

import structlog

from benchmark_runner.engine_client import EngineClient
from benchmark_runner.load import run_cell
from benchmark_runner.matrix import cells
from benchmark_runner.orchestrator import Orchestrator, RunFailedError
from benchmark_runner.settings import Settings
from benchmark_runner.store import RunStore
from benchmark_runner.targets import Target, choose, of_instance
from compute_common.enums import BenchmarkStatus
from compute_common.ids import new_id
from compute_common.problems import Problem, not_found
from compute_common.schemas.benchmark import Benchmark, BenchmarkProgress, BenchmarkRequest, Cell
from compute_common.schemas.vllm import Instance
from compute_common.tasks import end_tasks
from compute_common.times import utc_now

log = structlog.get_logger("benchmark")
TEMPORARY = "temporary_instance"
STOP_SECONDS = 2.0
INTERRUPTED = "the runner was restarted while this run was under way; finished cells are kept"
Finished = Callable[[Benchmark], Awaitable[None]]


class Conductor:
    """`finished(run)` is told of every run that ended."""

    def __init__(self, settings: Settings, orchestrator: Orchestrator, finished: Finished) -> None:
        self._settings = settings
        self._orchestrator = orchestrator
        self._finished = finished
        self.store = RunStore(settings.output_dir)
        self.runs: dict[str, Benchmark] = {}
        self._waiting: list[str] = []
        self._wake = asyncio.Event()
        self._ended: dict[str, asyncio.Event] = {}
        self._current: tuple[str, asyncio.Task[None]] | None = None
        self._worker: asyncio.Task[None] | None = None

    # --- life

    async def open(self) -> None:
        """Reload what was measured; runs that were under way are failed, with the cells they had."""
        for run in await asyncio.to_thread(self.store.load):
            self.runs[run.benchmark_id] = run
            if not run.status.final:
                await self._end(run.benchmark_id, BenchmarkStatus.FAILED, INTERRUPTED)
        self._worker = asyncio.create_task(self._work(), name="benchmark-worker")

    async def close(self) -> None:
        """End the run under way (it is marked interrupted) and stop what it started."""
        await end_tasks([self._worker])
        for benchmark_id in [r.benchmark_id for r in self.runs.values() if not r.status.final]:
            await self._end(benchmark_id, BenchmarkStatus.FAILED, INTERRUPTED)

    async def stop_leftovers(self) -> None:
        """Stop temporary instances of ended runs that a crash left behind."""
        for run in list(self.runs.values()):
            name = run.environment.get(TEMPORARY)
            if run.status.final and isinstance(name, str):
                await self._stop_temporary(run.benchmark_id, name)

    # --- what clients ask

    async def accept(self, request: BenchmarkRequest) -> Benchmark:
        """Queue a run. What can be known to fail is refused now: 403, 404, 409, 422; a full queue is 429."""
        if len(self._waiting) >= self._settings.queue_limit:
            raise Problem(
                429,
                "queue-full",
                "too many runs wait; try again when one has ended",
                headers={"Retry-After": "30"},
            )
        target = choose(request, await self._instances(request), self._settings.allowed_hosts)
        if target is None:
            await self._orchestrator.check(request)
        run = Benchmark(
            benchmark_id=new_id("bench"),
            status=BenchmarkStatus.QUEUED,
            model_name=request.model_name,
            instance_name=target.instance_name if target else None,
            node_id=target.node_id if target else None,
            engine=target.engine if target else request.engine,
            progress=BenchmarkProgress(cells_done=0, cells_total=len(cells(request))),
            request=request.model_dump(mode="json", exclude_none=True),
            created_at=utc_now(),
        )
        await self._keep(run)
        self._ended[run.benchmark_id] = asyncio.Event()
        self._waiting.append(run.benchmark_id)
        self._wake.set()
        return run

    def find(self, benchmark_id: str) -> Benchmark:
        run = self.runs.get(benchmark_id)
        if run is None:
            raise not_found("unknown-benchmark", f"no benchmark has the id '{benchmark_id}'")
        return run

    async def wait(self, benchmark_id: str) -> Benchmark:
        """The run once it has ended."""
        await self._ended[benchmark_id].wait()
        return self.runs[benchmark_id]

    async def cancel(self, benchmark_id: str) -> Benchmark:
        """End a run; finished cells stay. One that has already ended is answered as it is."""
        run = self.find(benchmark_id)
        if run.status.final:
            return run
        if benchmark_id in self._waiting:
            self._waiting.remove(benchmark_id)
        await self._end(benchmark_id, BenchmarkStatus.CANCELLED, "cancelled")
        if self._current is not None and self._current[0] == benchmark_id:
            self._current[1].cancel()
        return self.runs[benchmark_id]

    # --- one run after another

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._run_one(self._waiting.pop(0))

    async def _run_one(self, benchmark_id: str) -> None:
        task = asyncio.create_task(self._measure(benchmark_id), name=benchmark_id)
        self._current = (benchmark_id, task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task], timeout=STOP_SECONDS)
            raise
        finally:
            self._current = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if not isinstance(error, RunFailedError | Problem):
            log.error("benchmark failed", benchmark_id=benchmark_id, exc_info=error)
        reason = (
            str(error)
            if isinstance(error, RunFailedError | Problem)
            else "the runner failed; its log says why"
        )
        await self._end(benchmark_id, BenchmarkStatus.FAILED, reason)

    async def _measure(self, benchmark_id: str) -> None:
        run = self.runs[benchmark_id]
        request = BenchmarkRequest.model_validate(run.request)
        await self._update(benchmark_id, status=BenchmarkStatus.RUNNING, started_at=utc_now())
        target = choose(request, await self._instances(request), self._settings.allowed_hosts)
        temporary: str | None = None
        try:
            if target is None:
                await self._update(benchmark_id, environment={TEMPORARY: benchmark_id})
                temporary = benchmark_id
                temporary = await self._orchestrator.start(request, benchmark_id)
                await self._update(benchmark_id, environment={TEMPORARY: temporary})
                target = of_instance(
                    await self._orchestrator.wait_ready(temporary, self._settings.start_seconds)
                )
            await self._cells(benchmark_id, request, target)
        finally:
            if temporary is not None:
                await asyncio.shield(self._stop_temporary(benchmark_id, temporary))

    async def _cells(self, benchmark_id: str, request: BenchmarkRequest, target: Target) -> None:
        plans = cells(request)
        await self._update(
            benchmark_id,
            instance_name=target.instance_name,
            node_id=target.node_id,
            engine=target.engine,
            environment=self.runs[benchmark_id].environment | _environment(target),
        )
        done: list[Cell] = []
        async with EngineClient(
            target.base_url, target.model, self._settings.patience, max(request.batch_sizes)
        ) as client:
            await client.learn()
            for plan in plans:
                progress = BenchmarkProgress(cells_done=len(done), cells_total=len(plans), current=plan.label)
                await self._update(benchmark_id, progress=progress)
                done.append(await run_cell(client, plan, self._settings.slo))
                progress = BenchmarkProgress(cells_done=len(done), cells_total=len(plans))
                await self._update(benchmark_id, cells=list(done), progress=progress)
                if _dead(done):
                    raise RunFailedError(f"the server does not answer: {done[-1].note}")
        if not any(cell.requests > cell.errors for cell in done):
            raise RunFailedError(f"no request succeeded: {done[-1].note}")
        await self._end(benchmark_id, BenchmarkStatus.COMPLETED, None)

    # --- parts

    async def _instances(self, request: BenchmarkRequest) -> list[Instance]:
        try:
            return await self._orchestrator.instances()
        except Problem:
            if request.endpoint is None:
                raise
            return []  # an endpoint on loopback can be measured without the cluster

    async def _stop_temporary(self, benchmark_id: str, name: str) -> None:
        if not await self._orchestrator.stop(name):
            return  # tried again at the next start or reconnect
        environment = dict(self.runs[benchmark_id].environment)
        environment.pop(TEMPORARY, None)
        await self._keep(self.runs[benchmark_id].model_copy(update={"environment": environment}))

    async def _end(self, benchmark_id: str, status: BenchmarkStatus, error: str | None) -> None:
        """The first end of a run stays its end."""
        run = self.runs[benchmark_id]
        if run.status.final:
            return
        progress = run.progress.model_copy(update={"current": None})
        ended = run.model_copy(
            update={"status": status, "error": error, "finished_at": utc_now(), "progress": progress}
        )
        await self._keep(ended)
        if benchmark_id in self._ended:
            self._ended[benchmark_id].set()
        await self._finished(ended)

    async def _update(self, benchmark_id: str, **fields: object) -> None:
        """Change a run that has not ended; a cancelled one stays as it is."""
        run = self.runs[benchmark_id]
        if not run.status.final:
            await self._keep(run.model_copy(update=fields))

    async def _keep(self, run: Benchmark) -> None:
        self.runs[run.benchmark_id] = run
        try:
            await asyncio.to_thread(self.store.save, run)
        except OSError as error:
            log.error("result not written", benchmark_id=run.benchmark_id, reason=type(error).__name__)


def _dead(done: Sequence[Cell]) -> bool:
    """Two cells in a row in which nobody could even connect."""
    last = done[-2:]
    return len(last) == 2 and all(set(cell.error_kinds) == {"connect"} for cell in last)


def _environment(target: Target) -> dict[str, object]:
    return {
        "endpoint": target.base_url,
        "model": target.model,
        "generator": "benchmark-runner, asyncio closed loop",
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
