"""Measures one run: finds or starts the target, takes cell after cell, stops what it started."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from benchmark_runner import rate_search
from benchmark_runner.aiperf.adapter import Aiperf
from benchmark_runner.aiperf.adapter import check as check_aiperf
from benchmark_runner.environment import environment
from benchmark_runner.generator_process import GeneratorLostError, GeneratorProcess
from benchmark_runner.lab.adapter import Lab
from benchmark_runner.matrix import at_rate, cells, check
from benchmark_runner.orchestrator import Orchestrator, RunFailedError
from benchmark_runner.plan import CellPlan
from benchmark_runner.progress import Progress
from benchmark_runner.records import TEMPORARY, Records
from benchmark_runner.resources import ResourceWatch
from benchmark_runner.settings import Settings
from benchmark_runner.slo import Slo, wanted
from benchmark_runner.summary import Samples, summarise
from benchmark_runner.targets import Target, choose, of_instance
from benchmark_runner.tensorzero import NOTE, TensorZeroFeedback
from compute_common.access.engine_door import addresses_of
from compute_common.access.engine_hosts import EngineHosts
from compute_common.bus import Bus
from compute_common.enums import BenchmarkStatus
from compute_common.problems import Problem, invalid
from compute_common.schemas.benchmark import Benchmark, BenchmarkRequest, Cell
from compute_common.schemas.vllm import Instance
from compute_common.times import utc_now

FIRST_RATE = 1.0
INTERRUPTED = "the runner was restarted while this run was under way; finished cells are kept"


class Meter:
    """One run at a time. A run in `cancelled` that is cut off was cancelled, any other interrupted."""

    def __init__(
        self, settings: Settings, bus: Bus, orchestrator: Orchestrator, lab: Lab, records: Records
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._orchestrator = orchestrator
        self._lab = lab
        self._records = records
        self.cancelled: set[str] = set()

    async def check(self, request: BenchmarkRequest) -> Target | None:
        """What would be measured, None for what must be started first; raises what can be known to fail."""
        if request.tool == "llama-throughput-lab":
            self._lab.check(request)
            return None
        if request.tool == "aiperf":
            check_aiperf(request, self._settings.aiperf_bin)
        target = choose(request, await self._instances(request), self._settings.allowed_hosts)
        if target is None:
            await self._orchestrator.check(request)
        elif request.tool == "aiperf" and self._settings.key_for(target.base_url) is not None:
            raise invalid(
                "this endpoint has an API key, which AIPerf takes by its command line, where others on this "
                "host could read it; use the builtin tool"
            )
        return target

    async def measure(self, benchmark_id: str) -> None:
        """The whole run; it has ended, and what it started is stopped, when this returns or is cancelled."""
        records = self._records
        request = BenchmarkRequest.model_validate(records.runs[benchmark_id].request)
        await records.update(benchmark_id, status=BenchmarkStatus.RUNNING, started_at=utc_now())
        try:
            if request.tool == "llama-throughput-lab":
                await self._lab.measure(benchmark_id, request, records)
            else:
                await self._on_target(benchmark_id, request)
        except asyncio.CancelledError:
            await self._cut_off(benchmark_id, INTERRUPTED)
            raise
        except (RunFailedError, GeneratorLostError, Problem) as error:  # what is cut off may end so too
            await self._cut_off(benchmark_id, str(error))
        finally:
            self.cancelled.discard(benchmark_id)
            name = records.runs[benchmark_id].environment.get(TEMPORARY)
            if isinstance(name, str):
                await asyncio.shield(self.stop_temporary(benchmark_id, name))

    async def stop_temporary(self, benchmark_id: str, name: str) -> None:
        """Stop a run's own instance and forget it; where that fails it is tried again at the next start."""
        if await self._orchestrator.stop(name):
            run = self._records.runs[benchmark_id]
            kept = {key: value for key, value in run.environment.items() if key != TEMPORARY}
            await self._records.keep(run.model_copy(update={"environment": kept}))

    # --- parts

    async def _cut_off(self, benchmark_id: str, reason: str) -> None:
        """The run failed for that reason, unless somebody wanted its end."""
        if benchmark_id in self.cancelled:
            await self._records.end(benchmark_id, BenchmarkStatus.CANCELLED, "cancelled")
        else:
            await self._records.end(benchmark_id, BenchmarkStatus.FAILED, reason)

    async def _on_target(self, benchmark_id: str, request: BenchmarkRequest) -> None:
        target = choose(request, await self._instances(request), self._settings.allowed_hosts)
        if target is None:
            target = of_instance(await self._started(benchmark_id, request))
        reachable = self._settings.engines_at(target.base_url)
        target = await _judged(target, reachable)
        instance = await self._instance(target)
        known = self._records.runs[benchmark_id].environment
        await self._records.update(
            benchmark_id,
            instance_name=target.instance_name,
            node_id=target.node_id,
            engine=target.engine,
            environment=known | await environment(self._bus, target, instance, reachable),
        )
        async with self._generator(target, request) as generator:
            if isinstance(generator, Aiperf):
                await self._note(benchmark_id, {"generator": f"AIPerf {generator.version}"})
            slo = wanted(self._settings.slo, request.slo)
            watch = partial(ResourceWatch, self._bus, _gpus(target, instance))
            run = self._records.runs[benchmark_id]
            taking = _Taking(run, generator=generator, records=self._records, slo=slo, watch=watch)
            await taking.planned()
            if request.find_max_rate:
                await taking.search()
        done = self._records.runs[benchmark_id].cells
        if not any(cell.requests > cell.errors for cell in done):
            raise RunFailedError(f"no request succeeded: {done[-1].note}")
        await self._tell_tensorzero(benchmark_id, request, instance)
        await self._records.end(benchmark_id, BenchmarkStatus.COMPLETED, None)

    async def _tell_tensorzero(
        self, benchmark_id: str, request: BenchmarkRequest, instance: Instance | None
    ) -> None:
        """While the model is still served: the gateway answers with it. The record says what came of it."""
        if not self._settings.tensorzero_url or not request.publish:
            return
        run = self._records.runs[benchmark_id]
        gateway = TensorZeroFeedback(self._settings.tensorzero_url)
        said = await gateway.publish(run, instance.model_name if instance else request.model_name)
        await self._note(benchmark_id, {NOTE: said})

    async def _note(self, benchmark_id: str, more: dict[str, object]) -> None:
        known = self._records.runs[benchmark_id].environment
        await self._records.update(benchmark_id, environment=known | more)

    def _generator(self, target: Target, request: BenchmarkRequest) -> GeneratorProcess | Aiperf:
        """Ours, or AIPerf."""
        if request.tool == "aiperf":
            return Aiperf(target, self._settings.patience, request.api, self._settings.aiperf_bin)
        key = self._settings.key_for(target.base_url)
        return GeneratorProcess(target, self._settings.patience, request.api, key=key)

    async def _started(self, benchmark_id: str, request: BenchmarkRequest) -> Instance:
        """A temporary instance, ready; its name is on disk before it is asked for."""
        run = self._records.runs[benchmark_id]
        starting = run.progress.model_copy(update={"phase": "starting"})
        await self._records.update(benchmark_id, environment={TEMPORARY: benchmark_id}, progress=starting)
        name = await self._orchestrator.start(request, benchmark_id)
        await self._records.update(benchmark_id, environment={TEMPORARY: name})
        ready = await self._orchestrator.wait_ready(name, self._settings.start_seconds)
        if not self._settings.reachable_engines.allow(ready.endpoints.api):
            raise RunFailedError("the instance's address is neither loopback nor among ENGINE_HOSTS")
        return ready

    async def _instance(self, target: Target) -> Instance | None:
        if target.instance_name is None:
            return None
        try:
            found = await self._orchestrator.instances()
        except Problem:
            return None
        return next((i for i in found if i.instance_name == target.instance_name), None)

    async def _instances(self, request: BenchmarkRequest) -> list[Instance]:
        """Those that may be asked: an address comes from whoever wrote the record."""
        reachable = self._settings.reachable_engines
        try:
            known = await self._orchestrator.instances()
            return [each for each in known if not each.endpoints.api or reachable.allow(each.endpoints.api)]
        except Problem:
            if request.endpoint is None:
                raise
            return []  # an endpoint on loopback can be measured without the cluster


async def _judged(target: Target, reachable: EngineHosts) -> Target:
    """The target with the addresses its host has now: they stay the same for the whole run."""
    try:
        found = await addresses_of(reachable, target.base_url)
    except (OSError, ValueError) as error:
        raise RunFailedError(f"the engine's address cannot be used: {error}") from error
    return replace(target, addresses=tuple(found))


class _Taking:
    """Takes the cells of one run from one generator."""

    def __init__(
        self,
        run: Benchmark,
        *,
        generator: GeneratorProcess | Aiperf,
        records: Records,
        slo: Slo,
        watch: Callable[[], ResourceWatch],
    ) -> None:
        self._id = run.benchmark_id
        request = BenchmarkRequest.model_validate(run.request)
        self._request = request
        self._generator = generator
        self._records = records
        self._slo = slo
        searches = len(set(request.context_lengths)) * rate_search.PROBES if request.find_max_rate else 0
        self._progress = Progress(len(cells(request)) + searches)
        self._watch = watch

    async def planned(self) -> None:
        """The cells of the matrix; a server that cannot even be connected to twice in a row ends the run."""
        done: list[Cell] = []
        for plan in cells(self._request):
            done.append(await self._cell(plan))
            if _dead(done):
                raise RunFailedError(f"the server does not answer: {done[-1].note}")

    async def search(self) -> None:
        """The highest rate that keeps the SLO, for each context length."""
        for context in sorted(set(self._request.context_lengths)):
            probes: list[rate_search.Probe] = []
            done: list[Cell] = []
            while (rate := rate_search.next_rate(FIRST_RATE, probes, self._slo.attainment)) is not None:
                plan = at_rate(self._request, context, rate, 1000 + len(probes))
                if not _holdable(plan):
                    break
                done.append(await self._cell(plan))
                if _dead(done):
                    raise RunFailedError(f"the server does not answer: {done[-1].note}")
                probes.append(_probe(done[-1]))
            self._progress.skip(rate_search.PROBES - len(probes))
            found = rate_search.outcome(context, probes, self._slo.attainment)
            rates = [*self._records.runs[self._id].max_rates, found]
            await self._records.update(self._id, max_rates=rates, progress=self._progress.between())

    async def _cell(self, plan: CellPlan) -> Cell:
        """Measured and kept. Cut off, what there is of it is kept as partial."""

        def heard(phase: str, done: int, total: int) -> None:
            self._records.progress(self._id, self._progress.within(plan.label, phase, done, total))

        async with self._watch() as watch:
            try:
                samples = await self._generator.cell(plan, heard)
            except asyncio.CancelledError:
                partial = await self._generator.stop()
                if partial is not None and partial.timings:
                    await self._keep(self._summary(plan, partial, watch))
                raise
            cell = self._summary(plan, samples, watch)
        self._progress.done()
        await self._keep(cell)
        return cell

    def _summary(self, plan: CellPlan, samples: Samples, watch: ResourceWatch) -> Cell:
        cell = summarise(plan, samples, self._slo)
        return cell.model_copy(update={"resources": watch.found(cell.output_tokens_per_s)})

    async def _keep(self, cell: Cell) -> None:
        await self._records.add_cell(self._id, cell, self._progress.between())


def _gpus(target: Target, instance: Instance | None) -> dict[str, Sequence[int]]:
    if instance is not None and instance.placement:
        return {place.node_id: place.gpu_indices for place in instance.placement}
    return {target.node_id: ()} if target.node_id else {}


def _holdable(plan: CellPlan) -> bool:
    try:
        check(plan)
    except Problem:
        return False
    return True


def _probe(cell: Cell) -> rate_search.Probe:
    """Errors count as missed; a generator that was late says nothing about the server."""
    valid = cell.valid or cell.errors > 0
    return rate_search.Probe(cell.request_rate or 0.0, cell.slo_attainment or 0.0, valid)


def _dead(done: Sequence[Cell]) -> bool:
    """Two cells in a row in which nobody could even connect."""
    last = done[-2:]
    return len(last) == 2 and all(set(cell.error_kinds) == {"connect"} for cell in last)
