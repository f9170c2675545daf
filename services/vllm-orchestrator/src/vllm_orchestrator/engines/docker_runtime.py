"""Engines as containers of this host, made and ended through the proxy alone."""

import time
from collections.abc import Collection, Sequence
from typing import Any

import structlog

from compute_common.engine_containers import (
    BRIDGE,
    EPOCH,
    HOST,
    INSTANCE,
    OWNER,
    PORT,
    EngineContainer,
    container_name,
    create_body,
    owner_digest,
)  # fmt: skip
from compute_common.engine_images import images_of
from compute_common.enums import EngineKind
from compute_common.problems import Problem, unavailable
from vllm_orchestrator.engines.container import ContainerEngine
from vllm_orchestrator.engines.container_words import model_of, platform_of, words_inside
from vllm_orchestrator.engines.docker_api import DockerApi
from vllm_orchestrator.engines.files import EngineFiles
from vllm_orchestrator.engines.ports import free_port, is_free
from vllm_orchestrator.engines.runtime import Engine, FoundEngine, Order, Told
from vllm_orchestrator.settings import Settings

log = structlog.get_logger("engine")

TOLD_SECONDS = 1.0


class DockerRuntime:
    """Containers that carry our labels; of others it knows nothing."""

    def __init__(self, settings: Settings, files: EngineFiles, owner: str, node_id: str) -> None:
        self.api = DockerApi(settings.docker_proxy)
        self._settings = settings
        self._files = files
        self._owner = owner_digest(owner)
        self._node_id = node_id
        self._images = images_of(settings.vllm_docker_image, settings.llama_docker_image)
        self._engines: dict[str, ContainerEngine] = {}

    async def equipped(self, kind: EngineKind, command: Sequence[str]) -> list[str]:
        """As planned: the image brings the binary."""
        await self.api.check()
        return list(command)

    def port(self, wanted: int | None, taken: Collection[int]) -> int:
        """On a network of their own engines share no port; published ones do."""
        settings = self._settings
        bind = settings.engine_bind
        alone = bool(settings.engine_docker_network)
        if wanted is not None and wanted not in taken and (alone or is_free(bind, wanted)):
            return wanted
        if not alone:
            return free_port(bind, settings.port_range, taken)
        free = next((port for port in settings.port_range if port not in taken), None)
        if free is None:
            raise unavailable("no-port", "every port of ENGINE_PORTS is taken: stop an instance, or widen it")
        return free

    def own_host(self, instance_name: str, *, alone: bool) -> str:
        if alone and self._settings.engine_docker_network:
            return container_name(self._owner, instance_name)
        return self._settings.own_host

    def public_host(self, instance_name: str, *, alone: bool) -> str:
        if alone and self._settings.engine_docker_network:
            return container_name(self._owner, instance_name)
        return self._settings.advertise_host

    async def prepare(self, order: Order, told: Told) -> None:
        """Pull the image where it is not here."""
        image = self._container(order).image
        if await self.api.has_image(image):
            return
        log.info("image is pulled", image=image)
        spoke = 0.0
        async for _line in self.api.pull(image):
            if time.monotonic() - spoke > TOLD_SECONDS:
                spoke = time.monotonic()
                await told()

    async def start(self, order: Order) -> Engine:
        """Its labels find it again where we die before its record is written; its name keeps it one."""
        container = self._container(order)
        made = await self._create(container)
        engine = self.engine(order.instance_name, made)
        try:
            await self.api.start(made)
        except Problem as problem:
            await engine.end(0)
            taken = (
                "port is already allocated" in problem.detail or "address already in use" in problem.detail
            )
            raise Problem(
                problem.status, "port-taken" if taken else problem.cause, problem.detail
            ) from problem
        self._files.note_container(order.instance_name, made)
        engine.copy_log(0)
        return engine

    async def found(self) -> list[FoundEngine]:
        """Those of this orchestrator, known by the labels they got from it."""
        found = []
        for each in await self.api.engines():
            labels = each.get("Labels") or {}
            if labels.get(OWNER) == self._owner:
                found.append(self._found(each, labels))
        return found

    def engine(self, name: str, container: str) -> ContainerEngine:
        """One that a record or a label names: the same one every time."""
        if container not in self._engines:
            self._engines[container] = ContainerEngine(self.api, container, name, self._files)
        return self._engines[container]

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.let_go()
        await self.api.close()

    def _found(self, each: dict[str, Any], labels: dict[str, str]) -> FoundEngine:
        name = labels[INSTANCE]
        running = each.get("State") == "running"
        engine = self.engine(name, each["Id"])
        if running:
            self._files.note_container(name, each["Id"])
            engine.copy_log(self._files.written(name))
        return FoundEngine(name, int(labels[EPOCH]), engine, running, int(labels[PORT]) or None)

    async def _create(self, container: EngineContainer) -> str:
        """One of an earlier life that still has the name is ended first."""
        body = create_body(container)
        try:
            return await self.api.create(container.name, body)
        except Problem as problem:
            if problem.status != 409:
                raise
        for each in await self.api.engines():
            if f"/{container.name}" in each.get("Names", []):
                log.warning("a leftover container is ended", instance=container.instance_name)
                await self.engine(container.instance_name, each["Id"]).end(self._settings.engine_stop_seconds)
        return await self.api.create(container.name, body)

    def _container(self, order: Order) -> EngineContainer:
        settings = self._settings
        local = model_of(order.kind, order.command).startswith("/")
        platform = platform_of(order.kind, order.environment, local=local)
        root = settings.model_root
        network = (settings.engine_docker_network or BRIDGE) if order.alone else HOST
        return EngineContainer(
            template=platform.template,
            image=self._images[platform.template],
            owner=self._owner,
            node_id=self._node_id,
            instance_name=order.instance_name,
            epoch=order.epoch,
            port=order.port,
            words=words_inside(
                order.kind, order.command, (root.absolute(), root.resolve()), alone=order.alone
            ),
            environment=platform.environment,
            devices=platform.devices,
            models=settings.models_of_host,
            network=network,
            bind=settings.engine_bind if network == BRIDGE else "",
        )
