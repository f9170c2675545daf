"""Which hosts there are now: the registry's nodes, with what their ledgers say is free."""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import replace

import psutil
from pydantic import ValidationError

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import EngineKind
from compute_common.problems import Problem
from compute_common.schemas.gpu import GpuState, GpuStates
from compute_common.schemas.node import Node
from compute_common.schemas.vllm import NodeInstances
from compute_common.units import MIB
from vllm_orchestrator.downloads.local import LocalModels
from vllm_orchestrator.instances.ledger import LedgerClient
from vllm_orchestrator.planning.inventory import GpuSlot, Host, folded, host_of_node

QUERY_SECONDS = 2
STATES_SECONDS = 1
MAX_ASKED = 64


class NobodyThereError(Exception):
    """No program listens for the host's orchestrator."""


class Hosts:
    """The live inventory. A registry or ledger that is away makes it smaller or older, never an error."""

    def __init__(
        self,
        bus: Bus,
        ledger: LedgerClient,
        node_id: str,
        *,
        engines: Callable[[], frozenset[EngineKind]],
        local: LocalModels,
    ) -> None:
        self._engines = engines
        self._bus = bus
        self._ledger = ledger
        self._node_id = node_id
        self._local = local

    async def now(self) -> list[Host]:
        """This host first, then every other host of the suite; those that take nothing new now say why."""
        known = {node.node_id: node for node in await self._nodes()}
        own = known.pop(self._node_id, None)
        here = await asyncio.to_thread(self._local.names)
        local = _measured(host_of_node(own) if own else Host(self._node_id), self._engines())
        local = replace(local, models=_folded(here))
        others = [
            replace(host_of_node(node), engines=frozenset({EngineKind.VLLM}))
            for node in known.values()
            if is_managed(node)
        ]
        open_hosts = [host for host in others if not host.closed]
        busy = sorted(open_hosts, key=lambda host: not host.gpus)[:MAX_ASKED]
        seen = await asyncio.gather(self._with_states(local), *(self._looked_at(host) for host in busy))
        known_now = {host.node_id: host for host in seen}
        return [known_now.get(host.node_id, host) for host in (local, *others)]

    async def _looked_at(self, host: Host) -> Host:
        """Another host by the word of its ledger and of its orchestrator."""
        try:
            with_memory, told = await asyncio.gather(self._with_states(host), self._told(host.node_id))
        except NobodyThereError:
            return replace(host, closed="no orchestrator answers there, so nothing can be started")
        if told is None:
            return with_memory
        engines = host.engines | frozenset(told.engines or ())
        return replace(with_memory, models=_folded(told.local_models or ()), engines=engines)

    async def _with_states(self, host: Host) -> Host:
        return with_states(host, await self._ledger.states(host.node_id, STATES_SECONDS))

    async def _told(self, node_id: str) -> NodeInstances | None:
        subject = subjects.vllm_subject("status", node_id)
        try:
            answer = await self._bus.request(subject, {"equipment_only": True}, STATES_SECONDS)
            return NodeInstances.model_validate(answer)
        except Problem as problem:
            if problem.cause == "no-responder":
                raise NobodyThereError from problem
            return None
        except ValidationError:
            return None

    async def _nodes(self) -> list[Node]:
        ask = {"online_only": True, "include_draining": True}
        try:
            answer = await self._bus.request(subjects.NODES_QUERY, ask, QUERY_SECONDS)
            found = answer.get("nodes", [])
            return [Node.model_validate(node) for node in found] if isinstance(found, list) else []
        except (Problem, ValidationError):
            return []


def is_managed(node: Node) -> bool:
    """Whether the host runs this suite, and so an orchestrator that can start engines there."""
    return bool((node.model_extra or {}).get("managed") or getattr(node, "managed", False))


def _folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(folded, names))


def with_states(host: Host, states: GpuStates | None) -> Host:
    """The host with free memory as its ledger counts it; cordoned and lost cards are left out."""
    if states is None:
        return host
    usable = (gpu for gpu in states.gpus if gpu.schedulable and not gpu.cordoned and gpu.health == "ok")
    free = {gpu.index: gpu for gpu in usable}
    known = {gpu.index: gpu for gpu in host.gpus}
    gpus = tuple(
        replace(known[index], total_mb=state.total_mb, free_mb=state.available_mb)
        if index in known
        else _unannounced(state)
        for index, state in sorted(free.items())
    )
    return replace(
        host,
        gpus=gpus,
        ram_total_mb=states.host_memory.total_mb,
        ram_available_mb=states.host_memory.available_mb,
    )


def _unannounced(state: GpuState) -> GpuSlot:
    """A card, or a slice of one, that the ledger knows and the registry does not yet."""
    device = state.uuid or "" if state.parent_index is not None else ""
    total, free = state.total_mb, state.available_mb
    return GpuSlot(state.index, "nvidia", state.name, total, free, device=device)


def _measured(host: Host, engines: frozenset[EngineKind]) -> Host:
    """This host as it is now, where the registry's word may be old or missing."""
    memory = psutil.virtual_memory()
    total = host.ram_total_mb or memory.total // MIB
    return replace(
        host,
        engines=engines,
        ram_total_mb=total,
        ram_available_mb=min(total, host.ram_available_mb or total, memory.available // MIB),
        threads=min(_usable_cpus(), host.threads) if host.threads > 1 else _usable_cpus(),
    )


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
