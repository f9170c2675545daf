"""The vLLM orchestrator: plans where a model fits, and keeps its engine running there."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import httpx
import nats.errors
import structlog
from fastapi import APIRouter

from compute_common.access.engine_door import engine_client
from compute_common.enums import EngineKind
from compute_common.jetstream import INSTANCES_BUCKET
from compute_common.problems import Problem
from compute_common.shell import Service
from compute_common.shell.nats_metrics import StreamWatch
from compute_common.shell.service import Check
from compute_common.tasks import end_tasks, every
from vllm_orchestrator import bus_handlers, gateway, routes, streams
from vllm_orchestrator.downloads import routes as download_routes
from vllm_orchestrator.downloads.deploying import ModelFiles
from vllm_orchestrator.downloads.elsewhere import Elsewhere
from vllm_orchestrator.downloads.hub import Hub
from vllm_orchestrator.downloads.local import LocalModels
from vllm_orchestrator.downloads.peers import FileServer
from vllm_orchestrator.downloads.pulls import Pulls
from vllm_orchestrator.engines.files import EngineFiles
from vllm_orchestrator.engines.runtimes import Runtimes
from vllm_orchestrator.instances.adoption import Adoption
from vllm_orchestrator.instances.announcer import Announcer
from vllm_orchestrator.instances.attached import Attachments
from vllm_orchestrator.instances.catch_up import CatchUp
from vllm_orchestrator.instances.desk import Desk
from vllm_orchestrator.instances.groups import Groups
from vllm_orchestrator.instances.ledger import LedgerClient
from vllm_orchestrator.instances.metrics import InstanceCounts
from vllm_orchestrator.instances.moving import Mover
from vllm_orchestrator.instances.parts import Parts
from vllm_orchestrator.instances.planner import Planner
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.record_desk import RecordDesk
from vllm_orchestrator.instances.remote_bucket import RemoteBucket
from vllm_orchestrator.instances.roster import Roster
from vllm_orchestrator.instances.sources import Hosts
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.instances.takeover import TERMS, Takeover
from vllm_orchestrator.instances.tools import Tools
from vllm_orchestrator.instances.waking import Waker
from vllm_orchestrator.instances.yields import YieldFollower
from vllm_orchestrator.models.remote import HubModels
from vllm_orchestrator.models.resolve import DEMO_NAME, ModelFolder, demo_gguf
from vllm_orchestrator.settings import Settings
from vllm_orchestrator.tensorzero.registrar import Registrar

log = structlog.get_logger("orchestrator")


class VllmOrchestrator(Service):
    name = "vllm-orchestrator"
    title = "vLLM orchestrator"
    description = "Plans how a model fits the cluster, starts its engine, and keeps it running."

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        # loopback and engines only: a proxy of the environment has no part in it
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        askable = settings.reachable_engines.also(settings.engine_bind)
        self.client = engine_client(askable, limits=limits)
        self.files = EngineFiles(settings.compute_home)
        self._shares_account = settings.nats_account == "shared"
        remote = None if self._shares_account else RemoteBucket(self.bus)
        self.table = InstanceTable(self.bus, self.node_id, remote)
        self.announcer = Announcer(self.bus, self.table, self.node_id)
        ledger = LedgerClient(self.bus)
        demo = demo_gguf()
        self.local_models = LocalModels(settings.model_root, {DEMO_NAME: demo} if demo else {})
        hub = Hub(settings.hf_endpoint, settings.hf_token)
        owner = f"{self.node_id} {settings.compute_home.absolute()}"  # marks this orchestrator's engines
        self.runtimes = Runtimes(settings, self.files, owner, self.node_id)
        engines, local = self.runtimes.kinds, self.local_models
        hosts = Hosts(self.bus, ledger, self.node_id, engines=engines, local=local)
        self.model_folder = ModelFolder(settings.model_root)
        elsewhere = Elsewhere(self.bus, self.node_id, HubModels(hub))
        self.planner = Planner(settings, self.model_folder, hosts, self.node_id, elsewhere)
        self.pulls = Pulls(self.bus, self.node_id, self.local_models, hub)
        self.file_server = FileServer(self.bus, self.node_id, self.local_models)
        tools = self._tools(ledger)
        self.roster = Roster(tools)
        self.parts = Parts(self.roster, self.table, tools)
        self.adoption = Adoption(
            self.roster, self.parts, table=self.table, tools=tools, announcer=self.announcer
        )
        self.table.on_lost = self._lost
        mover = Mover(
            self.bus,
            tools=tools,
            table=self.table,
            planner=self.planner,
            announcer=self.announcer,
            adoption=self.adoption,
        )
        self.desk = Desk(
            self.bus,
            self.node_id,
            planner=self.planner,
            table=self.table,
            roster=self.roster,
            adoption=self.adoption,
            tools=tools,
            announcer=self.announcer,
            mover=mover,
        )
        self.groups = Groups(self.desk, self.table)
        self.waker = Waker(self.desk, self.table, self.node_id, settings.engine_start_seconds)
        self.takeover = Takeover(
            self.bus,
            self.node_id,
            tools=tools,
            table=self.table,
            mover=mover,
            announcer=self.announcer,
            roster=self.roster,
        )
        self.yields = YieldFollower(self.bus, self.desk, self.table, self.node_id)
        self.attachments = Attachments(
            settings, self.bus, self.table, self.announcer, client=self.client, node_id=self.node_id
        )
        self.metrics.registry.register(InstanceCounts(self.table))
        self._streams = StreamWatch(self.name, self.bus, [f"KV_{INSTANCES_BUCKET}"])
        self.metrics.registry.register(self._streams)
        self.leaving = False
        self._adopted = False
        self._adopting = asyncio.Lock()
        self._catch_up = CatchUp(self.bus, settings.instance_repeat_seconds)
        self._repeating: asyncio.Task[None] | None = None
        self._yielding: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._registering: asyncio.Task[None] | None = None

    def _tools(self, ledger: LedgerClient) -> Tools:
        return Tools(
            node_id=self.node_id,
            settings=self.settings,
            bus=self.bus,
            ledger=ledger,
            files=self.files,
            client=self.client,
            changed=self.announcer.changed,
            tell=self.announcer.tell,
            ports_taken=self._ports_taken,
            runtimes=self.runtimes,
            models=ModelFiles(self.pulls, self.model_folder, self.bus),
        )

    def routers(self) -> Sequence[APIRouter]:
        return [routes.router(self), streams.router(self), download_routes.router(self), gateway.router(self)]

    def checks(self) -> dict[str, Check]:
        async def engine() -> tuple[bool, str | None]:
            try:
                return True, await self.runtimes.health()
            except Problem as problem:
                return False, problem.detail

        return {"engine": Check(engine)}

    def is_ready(self) -> bool:
        """Records are replayed as soon as NATS is there; without it there is nothing to wait for."""
        return self._adopted or not self.bus.connected

    async def start(self) -> None:
        await bus_handlers.serve(self)
        await download_routes.serve(self)
        if self._shares_account:
            await RecordDesk(self.bus, self.table).serve()
        if (
            self.bus.connected
        ):  # ready means that a request finds us: subscriptions sit in a buffer until sent
            with suppress(nats.errors.Error, TimeoutError):
                await self.bus.flush()
        self.bus.on_connect(self._on_connect)
        self._streams.start()
        self._repeating = asyncio.create_task(self._repeat(), name="instance events")
        self._yielding = asyncio.create_task(self.yields.run(), name="yields")
        if self._shares_account:  # another host's account may not look after others
            watching = every(TERMS.renew_seconds, self.takeover.look)
            self._watching = asyncio.create_task(watching, name="lost hosts")
        if (folder := self.settings.tensorzero_config_dir) is not None:
            reachable = self.settings.reachable_engines
            registrar = Registrar(self.table, folder, self.settings.tensorzero_reload_command, reachable)
            self._registering = asyncio.create_task(registrar.run(), name="TensorZero")

    async def stop(self) -> None:
        self.leaving = True
        await self._streams.stop()
        await end_tasks([self._repeating, self._yielding, self._watching, self._registering])
        await self.takeover.release()
        await self.pulls.stop()
        await self.roster.leave()
        await self.runtimes.close()
        await self.client.aclose()

    async def _on_connect(self) -> None:
        await self._catch_up.attempt(self._follow_bucket)

    async def _follow_bucket(self) -> None:
        """What memory and bucket have to tell each other, and engines that follow from it."""
        async with self._adopting:
            await self.table.flush()
            await self.table.refresh()
            if not self._adopted:
                await self.adoption.adopt()
                self._adopted = True
            else:
                await self.adoption.take_up_new()
            await self.announcer.repeat()

    async def _lost(self, mine: Record, theirs: Record) -> None:
        """Another life of the instance began while this host was away: what runs here for it is an orphan."""
        await self.roster.orphan(mine)
        if theirs.node_id == self.node_id:
            await self.adoption.take_up(theirs.instance_name, [])

    async def _repeat(self) -> None:
        while True:
            await self._catch_up.rest()
            await self._catch_up.attempt(self._look_again)

    async def _look_again(self) -> None:
        await self.attachments.look()
        await self._follow_bucket()
        await self.parts.look()

    def equipment(self) -> tuple[list[str], list[EngineKind]]:
        """The models whose files are whole here, and the engines that start here."""
        return self.local_models.names(), sorted(self.runtimes.startable())

    def _ports_taken(self) -> set[int]:
        return {record.port for record in self.table.own() if record.port and record.has_engine}
