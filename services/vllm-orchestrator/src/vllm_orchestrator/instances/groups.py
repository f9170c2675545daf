"""Deployments of several replicas: each an instance of its own name, all answering to the first one's."""

import asyncio

from compute_common.problems import Problem
from compute_common.schemas.vllm import DeployAnswer, DeployRequest, Instance, StopAnswer
from vllm_orchestrator.instances.desk import Desk
from vllm_orchestrator.instances.planner import Berth
from vllm_orchestrator.instances.record import Record, replica_name
from vllm_orchestrator.instances.table import InstanceTable


class Groups:
    """`replicas: n` is the named instance and `<name>-r2` to `<name>-rn` on other GPUs or hosts.

    All of them or none.
    """

    def __init__(self, desk: Desk, table: InstanceTable) -> None:
        self._desk = desk
        self._table = table

    async def deploy(self, request: DeployRequest) -> tuple[int, DeployAnswer]:
        """As `Desk.deploy`, of the first replica; the others start beside it."""
        code, answer = await self._desk.deploy(request)
        count = request.replicas or 1
        if count == 1 or request.dry_run:
            return code, answer
        begun = [answer.instance_name] if code == 202 else []
        used = list(answer.placement)
        for number in range(2, count + 1):
            name = replica_name(answer.instance_name, number)
            one = request.model_copy(update={"instance_name": name, "replicas": None})
            berth = Berth(avoid=tuple(used), replica_of=answer.instance_name)
            try:
                its_code, its = await self._desk.deploy(one, berth)
            except BaseException as error:
                await asyncio.shield(self._undo(begun))
                if isinstance(error, Problem):
                    error.detail = f"replica {number} of {count}: {error.detail}"
                raise
            begun += [name] if its_code == 202 else []
            used += its.placement
        return code, answer

    async def start(self, name: str) -> Instance:
        """Start it and its further replicas."""
        record = self._desk.require(name)
        await asyncio.gather(*(self._desk.start(each.instance_name) for each in self._further(record)))
        return await self._desk.start(name)

    async def stop(self, name: str, *, remove: bool) -> StopAnswer:
        """Stop it and its further replicas."""
        record = self._desk.require(name)
        further = (self._desk.stop(each.instance_name, remove=remove) for each in self._further(record))
        answers = await asyncio.gather(*further, self._desk.stop(name, remove=remove))
        return answers[-1]

    def _further(self, record: Record) -> list[Record]:
        return [each for each in self._table.all() if each.replica_of == record.instance_name]

    async def _undo(self, names: list[str]) -> None:
        undone = (self._desk.stop(name, remove=True) for name in names)
        await asyncio.gather(*undone, return_exceptions=True)
