"""The benchmark runner: what a deployed model really delivers."""

import contextlib
from collections.abc import Sequence

from fastapi import APIRouter
from prometheus_client import Counter, Gauge

from benchmark_runner import bus_handlers, routes
from benchmark_runner.conductor import Conductor
from benchmark_runner.orchestrator import Orchestrator
from benchmark_runner.settings import Settings
from compute_common import subjects
from compute_common.enums import BenchmarkStatus
from compute_common.problems import Problem
from compute_common.schemas.benchmark import Benchmark, BenchmarkResult
from compute_common.shell import Service
from compute_common.shell.service import Check
from compute_common.times import utc_now


class BenchmarkRunner(Service):
    name = "benchmark-runner"
    title = "Benchmark runner"
    description = "Latency and throughput of a deployed model, measured from raw samples."

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.conductor = Conductor(settings, Orchestrator(self.bus), self._finished)
        registry = self.metrics.registry
        self._ended = Counter("compute_benchmark_runs_total", "Runs ended", ["status"], registry=registry)
        running = Gauge("compute_benchmark_runs_active", "Runs queued or running", registry=registry)
        running.set_function(lambda: sum(not run.status.final for run in self.conductor.runs.values()))

    def routers(self) -> Sequence[APIRouter]:
        return (routes.router(self.conductor), routes.result_router(self.conductor))

    def checks(self) -> dict[str, Check]:
        return {"output_dir": Check(self._output_ok, required=True)}

    async def start(self) -> None:
        await self.conductor.open()
        await bus_handlers.serve(self.bus, self.conductor)
        self.bus.on_connect(self.conductor.stop_leftovers)

    async def stop(self) -> None:
        await self.conductor.close()

    async def _finished(self, run: Benchmark) -> None:
        """Count it, and publish what was measured; the file on disk is the record."""
        self._ended.labels(run.status.value).inc()
        if run.status is not BenchmarkStatus.COMPLETED:
            return
        result = BenchmarkResult(
            benchmark_id=run.benchmark_id,
            model_name=run.model_name,
            instance_name=run.instance_name,
            node_id=run.node_id,
            engine=run.engine,
            cells=run.cells,
            finished_at=run.finished_at or utc_now(),
        )
        with contextlib.suppress(Problem):
            await self.bus.publish(subjects.BENCHMARK_RESULT, result)

    async def _output_ok(self) -> tuple[bool, str | None]:
        return self.conductor.store.writable()
