"""The other hosts of an instance over several hosts, as its head sees them: started, watched, ended."""

import asyncio
import time
from collections.abc import Mapping

import structlog

from compute_common import subjects
from compute_common.problems import Problem
from vllm_orchestrator.engines.ports import free_port
from vllm_orchestrator.instances.record import RankPart, Record
from vllm_orchestrator.instances.tools import Tools
from vllm_orchestrator.schemas import RankOrder, RankRef, RankState

log = structlog.get_logger("engine")

START_SECONDS = 15
LOOK_SECONDS = 2.0
MISSED_LOOKS = 3  # a host that does not answer so often is lost; its orchestrator may just be starting again


class Ranks:
    """Ranks 1 and up, each on a host of its own; the head is rank 0. Nothing to do on a single host."""

    def __init__(self, record: Record, tools: Tools) -> None:
        self._record = record
        self._tools = tools
        self._looked = 0.0
        self._missed: dict[str, int] = {}

    async def start(self) -> None:
        """All, each told where the head listens. Problem where one cannot; the caller ends the rest."""
        if not self._record.ranks:
            return
        self._missed.clear()
        settings = self._tools.settings
        taken = {*self._tools.ports_taken(), self._record.port or 0}
        port = free_port(settings.engine_bind, settings.port_range, taken)
        self._record.command = with_master_port(self._record.command, port)
        orders = [self._order(number, part, port) for number, part in enumerate(self._record.ranks, 1)]
        await asyncio.gather(*orders)

    async def stop(self) -> None:
        """All of them; one that does not answer ends its part when it looks at the record again."""
        await asyncio.gather(*(self._stop(part) for part in self._record.ranks))

    async def lost(self) -> str | None:
        """Why the instance is not whole any more; asks every LOOK_SECONDS."""
        if not self._record.ranks or time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        found = await asyncio.gather(*(self._look(part) for part in self._record.ranks))
        return next((reason for reason in found if reason is not None), None)

    async def _order(self, number: int, part: RankPart, port: int) -> None:
        record = self._record
        order = RankOrder(
            instance_name=record.instance_name,
            epoch=record.epoch,
            rank=number,
            arguments=with_master_port(part.arguments, port),
            environment=part.environment,
            reservation_id=record.reservations[part.node_id],
        )
        try:
            await self._ask("start", part, {"rank": order.model_dump(mode="json")}, START_SECONDS)
        except Problem as problem:
            problem.detail = f"rank {number} on node '{part.node_id}': {problem.detail}"
            raise

    async def _look(self, part: RankPart) -> str | None:
        try:
            answer = await self._ask("status", part, {"rank": self._ref()}, LOOK_SECONDS)
        except Problem:
            self._missed[part.node_id] = self._missed.get(part.node_id, 0) + 1
            silent = self._missed[part.node_id] >= MISSED_LOOKS
            return f"node '{part.node_id}', which holds a part of it, does not answer" if silent else None
        self._missed.pop(part.node_id, None)
        if RankState.model_validate(answer).alive:
            return None
        return f"the part on node '{part.node_id}' exited unasked"

    async def _stop(self, part: RankPart) -> None:
        settings = self._tools.settings
        try:
            body = {"rank": self._ref()}
            await self._ask("stop", part, body, settings.engine_stop_seconds + START_SECONDS)
        except Problem as problem:
            log.warning("part not stopped", node_id=part.node_id, cause=problem.cause)

    def _ref(self) -> dict[str, object]:
        ref = RankRef(instance_name=self._record.instance_name, epoch=self._record.epoch)
        return ref.model_dump(mode="json")

    async def _ask(
        self, verb: str, part: RankPart, body: Mapping[str, object], seconds: float
    ) -> dict[str, object]:
        return await self._tools.bus.request(subjects.vllm_subject(verb, part.node_id), body, seconds)


def with_master_port(arguments: list[str], port: int) -> list[str]:
    """The arguments with the port at which the head gathers its ranks."""
    if "--master-port" not in arguments:
        return arguments
    at = arguments.index("--master-port") + 1
    return [*arguments[:at], str(port), *arguments[at + 1 :]]
