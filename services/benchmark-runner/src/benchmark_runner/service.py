"""The benchmark runner: what a deployed model really delivers."""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from fastapi import APIRouter
from prometheus_client import Counter, Gauge

from benchmark_runner import bus_handlers, routes
from benchmark_runner.conductor import Conductor
from benchmark_runner.environment import NAMES
from benchmark_runner.lab.adapter import Lab
from benchmark_runner.ledger import Ledger
from benchmark_runner.measuring import Meter
from benchmark_runner.orchestrator import Orchestrator
from benchmark_runner.records import Records
from benchmark_runner.settings import Settings
from benchmark_runner.store import RunStore
from benchmark_runner.supabase import SupabaseResults
from compute_common import subjects
from compute_common.enums import BenchmarkStatus
from compute_common.problems import Problem
from compute_common.schemas.benchmark import Benchmark, BenchmarkProgressEvent, BenchmarkResult
from compute_common.shell import Service
from compute_common.shell.service import Check
from compute_common.tasks import end_tasks
from compute_common.times import utc_now

LAST_WORDS_SECONDS = 2.0


def _supabase(settings: Settings) -> SupabaseResults | None:
    url, key = settings.supabase_url, settings.supabase_service_key
    return SupabaseResults(url, key, settings.supabase_timeout_seconds) if url and key else None


def _names(run: Benchmark) -> list[str]:
    found = run.environment.get(NAMES)
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


class BenchmarkRunner(Service):
    name = "benchmark-runner"
    title = "Benchmark runner"
    description = "Latency and throughput of a deployed model, measured from raw samples."

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.records = Records(RunStore(settings.output_dir), settings.keep_runs, self._told, self._finished)
        lab = Lab(settings, self.node_id, Ledger(self.bus, self.node_id))
        meter = Meter(settings, self.bus, Orchestrator(self.bus), lab, self.records)
        self.conductor = Conductor(self.records, meter, settings.queue_limit)
        self._telling: set[asyncio.Task[Any]] = set()
        self._supabase = _supabase(settings)
        registry = self.metrics.registry
        self._ended = Counter("compute_benchmark_runs_total", "Runs ended", ["status"], registry=registry)
        running = Gauge("compute_benchmark_runs_active", "Runs queued or running", registry=registry)
        running.set_function(lambda: sum(not run.status.final for run in self.records.runs.values()))

    def routers(self) -> Sequence[APIRouter]:
        return (routes.router(self.conductor), routes.result_router(self.records))

    def checks(self) -> dict[str, Check]:
        return {"output_dir": Check(self._output_ok, required=True)}

    async def start(self) -> None:
        await self.conductor.open()
        await bus_handlers.serve(self.bus, self.conductor)
        self.bus.on_connect(self.conductor.stop_leftovers)

    async def stop(self) -> None:
        await self.conductor.close()
        if self._telling:  # a last word, but not for long
            await asyncio.wait(self._telling, timeout=LAST_WORDS_SECONDS)
        await end_tasks(self._telling)

    async def _finished(self, run: Benchmark) -> None:
        """Count it, and publish what was measured; the file on disk is the record."""
        self._ended.labels(run.status.value).inc()
        if self._supabase is not None and run.request.get("publish") is not False:
            self._spawn(self._supabase.publish(run))
        if run.status is not BenchmarkStatus.COMPLETED:
            return
        result = BenchmarkResult(
            benchmark_id=run.benchmark_id,
            model_name=run.model_name,
            instance_name=run.instance_name,
            node_id=run.node_id,
            engine=run.engine,
            also_named=[name for name in _names(run) if name != run.model_name],
            cells=[
                cell for cell in run.cells if cell.request_rate is None
            ],  # an open loop shows no top speed
            finished_at=run.finished_at or utc_now(),
        )
        with contextlib.suppress(Problem):
            await self.bus.publish(subjects.BENCHMARK_RESULT, result)

    def _told(self, event: BenchmarkProgressEvent) -> None:
        """Pass progress on over NATS; without NATS nobody hears it there, and nothing waits for it."""
        if self.bus.connected:
            self._spawn(self._tell(event))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, event: BenchmarkProgressEvent) -> None:
        with contextlib.suppress(Problem):
            await self.bus.publish(subjects.BENCHMARK_PROGRESS, event)

    async def _output_ok(self) -> tuple[bool, str | None]:
        return self.records.store.writable()
