"""Deploy, start, stop, remove: what clients ask of this host's instances."""

import asyncio
import shutil
from weakref import WeakValueDictionary

import structlog

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import EngineKind, InstanceStatus
from compute_common.problems import Problem, conflict, not_found, unavailable
from compute_common.schemas.vllm import DeployAnswer, DeployRequest, Instance, StartProgress, StopAnswer
from compute_common.times import utc_now
from vllm_orchestrator.engines import process as engines
from vllm_orchestrator.engines.binary import LlamaServers
from vllm_orchestrator.engines.drain import drained
from vllm_orchestrator.instances.announcer import Announcer
from vllm_orchestrator.instances.answers import record_of, refusal
from vllm_orchestrator.instances.planner import Planner
from vllm_orchestrator.instances.record import Record, default_name, request_of
from vllm_orchestrator.instances.runner import Runner, Tools
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.planning.result import NoFit, Plan
from vllm_orchestrator.rendering.argv import known_words

log = structlog.get_logger("desk")

FORWARD_SECONDS = 30
DRAIN_SECONDS = 8.0
ENDED = (InstanceStatus.STOPPED, InstanceStatus.FAILED)


class Desk:
    """One lock per name, so that two requests for one instance never cross."""

    def __init__(
        self,
        bus: Bus,
        node_id: str,
        *,
        planner: Planner,
        table: InstanceTable,
        tools: Tools,
        announcer: Announcer,
        llama: LlamaServers,
    ) -> None:
        self._bus = bus
        self._node_id = node_id
        self._planner = planner
        self._table = table
        self._tools = tools
        self._announcer = announcer
        self._llama = llama
        self._runners: dict[str, Runner] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # --- deploy

    async def deploy(self, request: DeployRequest) -> tuple[int, DeployAnswer]:
        """(202, the instance that now starts) or (200, the one that runs, or the plan of a dry run)."""
        if request.node_id not in (None, self._node_id) and not request.dry_run:
            return 202, await self._forward(request.node_id, request)
        name = request.instance_name or default_name(request.model_name, self._table.names())
        async with self._lock(name):
            existing = self._table.get(name)
            if existing is not None and not request.dry_run:
                answer = await self._again(existing, request)
                if answer is not None:
                    return answer
            return await self._deploy(name, request, existing)

    async def _deploy(
        self, name: str, request: DeployRequest, existing: Record | None
    ) -> tuple[int, DeployAnswer]:
        found = await self._planner.find(request)
        if isinstance(found, NoFit):
            raise refusal(found)
        record = record_of(found, request, name, self._tools.settings, utc_now())
        if request.dry_run:
            return 200, _answer(record, request)
        if request.auto_start:
            self._startable_here(found)
            if record.node_id != self._node_id:
                return 202, await self._forward(record.node_id, request)
            await self._equip(record)
        if existing is not None:
            record.epoch = existing.epoch + 1
            await self._table.remove(name)
        if not await self._table.claim(record):
            raise _taken(name)
        if request.auto_start:
            await self._launch(record)
        else:
            await self._announcer.tell(record)
        return 202, _answer(record, request)

    async def _again(self, existing: Record, request: DeployRequest) -> tuple[int, DeployAnswer] | None:
        """The answer for a name that is taken; None when its record is to be replaced."""
        same = existing.request == request_of(request) and not existing.attached
        if not same:
            if existing.status in ENDED and existing.node_id == self._node_id:
                return None
            raise _taken(existing.instance_name)
        wants_start = request.auto_start and existing.node_id == self._node_id
        if wants_start and existing.status in (*ENDED, InstanceStatus.PLANNED):
            return None  # planned anew: the host may have changed since
        return 200, _answer(existing, request)

    def _startable_here(self, plan: Plan) -> None:
        if len(plan.places) == 1:
            return
        hosts = ", ".join(place.node_id for place in plan.places)
        raise conflict(
            "several-hosts",
            f"the only layout that fits spans {hosts}, and this version starts engines on one host: deploy"
            " with auto_start false and run the generated compose file on each of them",
            placement=[{"node_id": place.node_id, "gpu_indices": place.gpu_indices} for place in plan.places],
        )

    async def _equip(self, record: Record) -> None:
        """Put the real binary of this host into the argv. Raises Problem 503 saying what is missing."""
        if record.engine is EngineKind.LLAMA_CPP:
            server = await self._llama.ready()
            record.command = [str(server.path), *known_words(record.command[1:], server.flags)]
            return
        binary = shutil.which("vllm")
        if binary is None:
            raise Problem(
                503,
                "no-engine",
                "vllm is not on PATH of this host: install it, or deploy with auto_start false and run the"
                " generated compose file",
            )
        record.command = [binary, *record.command[1:]]

    async def _launch(self, record: Record) -> None:
        """Reserve, then supervise; a refused reservation leaves nothing behind."""
        record.desired = "ready"
        record.status = InstanceStatus.STARTING
        record.progress = StartProgress(phase="reserving", percent=0)
        record.last_error = None
        record.ready_at = None
        runner = Runner(record, self._tools)
        try:
            await runner.reserve()
        except BaseException:
            await self._table.remove(record.instance_name)
            raise
        await self._announcer.changed(record)
        self._supervise(runner)

    def _supervise(self, runner: Runner) -> None:
        self._runners[runner.record.instance_name] = runner
        runner.start()

    async def _forward(self, node_id: str | None, request: DeployRequest) -> DeployAnswer:
        """Let the host's own orchestrator do it."""
        subject = subjects.vllm_subject("start", node_id or "")
        body = request.model_dump(mode="json", exclude_none=True) | {"node_id": node_id}
        try:
            answer = await self._bus.request(subject, body, FORWARD_SECONDS)
        except Problem as problem:
            if problem.cause != "no-responder":
                raise
            detail = f"no orchestrator answers on node '{node_id}'; is that host up, and is the id right?"
            raise not_found("unknown-node", detail) from problem
        return DeployAnswer.model_validate(answer)

    # --- start, stop, remove

    async def start(self, name: str) -> Instance:
        """Start a planned, stopped or failed instance; one that runs is left as it is."""
        record = self.require(name)
        if record.node_id != self._node_id:
            subject = subjects.vllm_subject("start", record.node_id or "")
            return Instance.model_validate(
                await self._bus.request(subject, {"instance_name": name}, FORWARD_SECONDS)
            )
        if record.attached:
            raise conflict("attached", "an attached server is not started or stopped from here")
        if record.status in (*ENDED, InstanceStatus.PLANNED):
            request = DeployRequest.model_validate({**record.request, "instance_name": name})
            await self.deploy(request)
        return self.require(name).public()

    async def stop(self, name: str, *, remove: bool) -> StopAnswer:
        """End the engine and give its memory back; with `remove` forget the record too."""
        record = self.require(name)
        if record.node_id != self._node_id:
            return await self._stop_there(record, remove)
        async with self._lock(name):
            record = self.require(name)
            self._require_nats()
            if not record.attached:
                record.set_aside = False
                await self._end(record)
            if remove or record.attached:
                await self._table.remove(name)
                await self._announcer.tell(record, "removed")
        return StopAnswer(instance_name=name, instance_id=name)

    async def set_aside(self, name: str, reason: str) -> None:
        """Drain and stop an instance of this host for its owner's sake; `bring_back` undoes it."""
        async with self._lock(name):
            record = self._table.get(name)
            if record is None or record.status in ENDED:
                return
            log.info("instance set aside", instance=name, reason=reason)
            record.set_aside, record.last_error = True, reason
            await self._end(record, drain=record.status is InstanceStatus.READY)

    async def bring_back(self, name: str) -> None:
        """Start an instance that was set aside, planned anew; a refusal leaves it set aside."""
        record = self._table.get(name)
        if record is None or not record.set_aside:
            return
        request = DeployRequest.model_validate({**record.request, "instance_name": name})
        try:
            await self.deploy(request)
        except Problem:
            if self._table.get(name) is None:  # a deployment that is refused late leaves no record
                await self._table.claim(record)
            raise

    async def _end(self, record: Record, *, drain: bool = False) -> None:
        record.desired = "stopped"
        if record.status not in (*ENDED, InstanceStatus.PLANNED):
            record.status = InstanceStatus.STOPPING
            await self._announcer.changed(record)  # off the routes before the engine ends
        if drain:
            await drained(self._tools.client, record.endpoints.metrics or "", DRAIN_SECONDS)
        runner = self._runners.pop(record.instance_name, None) or Runner(record, self._tools, record.process)
        await runner.stop()
        record.status = InstanceStatus.STOPPED
        record.progress = None
        await self._announcer.changed(record)

    async def _stop_there(self, record: Record, remove: bool) -> StopAnswer:
        name = record.instance_name
        subject = subjects.vllm_subject("stop", record.node_id or "")
        answer = await self._bus.request(subject, {"instance_name": name, "remove": remove}, FORWARD_SECONDS)
        return StopAnswer.model_validate(answer)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _require_nats(self) -> None:
        if not self._bus.connected:
            raise unavailable("nats-unavailable", "NATS is not connected; the record cannot be changed now")

    def require(self, name: str) -> Record:
        """The record, wherever its instance runs. Problem 404."""
        record = self._table.get(name)
        if record is None:
            raise not_found("unknown-instance", f"there is no instance '{name}'; see /api/v1/vllm/instances")
        return record

    # --- life of the service

    async def adopt(self) -> None:
        """After a start: take over engines that run, start those that should, end those nobody knows."""
        for record in self._table.own():
            async with self._lock(record.instance_name):  # a client may be deploying it already
                await self._adopt(record.instance_name)
        known = {record.instance_name for record in self._table.own()}
        for orphan in self._tools.files.all():
            if orphan.instance_name not in known:
                log.warning("an engine without a record is ended", instance=orphan.instance_name)
                await engines.end(orphan.process, self._tools.settings.engine_stop_seconds)
                self._tools.files.remove(orphan.instance_name)

    async def _adopt(self, name: str) -> None:
        record = self._table.get(name)
        if record is None or record.attached or name in self._runners:
            return
        file = self._tools.files.read(name)
        process = file.process if file else record.process
        running = process if process is not None and engines.alive(process) else None
        if record.desired == "ready":
            await self._resume(record, running)
        elif running is not None or record.status is InstanceStatus.STOPPING:
            await self._end(record)

    async def _resume(self, record: Record, running: engines.EngineProcess | None) -> None:
        if running is not None:
            log.info("engine adopted", instance=record.instance_name, pid=running.pid)
            record.pid, record.start_time = running.pid, running.start_time
            self._supervise(Runner(record, self._tools, running))
            return
        log.info("engine started again", instance=record.instance_name)
        leftover = Runner(record, self._tools, record.process)
        await leftover.stop()
        record.epoch += 1
        record.status = InstanceStatus.STARTING
        record.ready_at = None
        if record.engine is EngineKind.LLAMA_CPP and shutil.which(record.command[0]) is None:
            try:
                record.command = [str((await self._llama.ready()).path), *record.command[1:]]
            except Problem as problem:  # one instance without its binary must not keep the others down
                record.status, record.last_error = InstanceStatus.FAILED, problem.detail
                record.desired = "stopped"
                await self._announcer.changed(record)
                return
        self._supervise(Runner(record, self._tools))

    async def leave(self) -> None:
        """Stop supervising; every engine goes on."""
        for runner in self._runners.values():
            await runner.leave()


def _answer(record: Record, request: DeployRequest) -> DeployAnswer:
    answer = DeployAnswer.model_validate(record.model_dump())
    return answer.model_copy(update={"request_id": request.request_id})


def _taken(name: str) -> Problem:
    return conflict(
        "instance-exists",
        f"the instance '{name}' exists with another request: choose another name, or DELETE it first",
    )
