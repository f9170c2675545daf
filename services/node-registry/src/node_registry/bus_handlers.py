"""What the registry hears on NATS, and the query it answers there."""

import asyncio
import time

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.ids import is_identifier
from compute_common.problems import Problem, invalid
from compute_common.schemas.benchmark import BenchmarkResult
from compute_common.schemas.node import Heartbeat, NodeDocument, NodeDrain, NodeQuery, NodeRemove
from compute_common.schemas.vllm import InstanceEvent
from compute_common.times import utc_now
from node_registry.pages import LARGEST_ANSWER_BYTES, query_answer
from node_registry.registrar import Registrar
from node_registry.table import NodeTable

TURN_SECONDS = 0.005
SIGNS_OF_LIFE = (subjects.WORK_COMPLETED, subjects.WORK_FAILED, subjects.WORK_PROGRESS)


class BusHandlers:
    """One method a subject; each validates its message and hands it to the registrar."""

    def __init__(self, registrar: Registrar, table: NodeTable) -> None:
        self._registrar = registrar
        self._table = table
        self._turn_began = 0.0

    async def subscribe(self, bus: Bus) -> None:
        """Every replica hears everything."""
        await bus.subscribe(subjects.NODES_ANNOUNCE, self.announced)
        await bus.subscribe(subjects.NODES_HEARTBEAT, self.beaten)
        await bus.subscribe(subjects.NODES_DRAIN, self.drained)
        await bus.subscribe(subjects.NODES_REMOVE, self.removed)
        await bus.subscribe(subjects.VLLM_INSTANCE, self.instance_changed)
        await bus.subscribe(subjects.BENCHMARK_RESULT, self.benchmarked)
        for subject in SIGNS_OF_LIFE:
            await bus.subscribe(subject, self.lives)
        await bus.subscribe_family("compute.node.*.announce", self.announced_itself)
        await bus.subscribe_family("compute.node.*.heartbeat", self.beaten_itself)
        for verb in ("completed", "failed", "progress"):
            await bus.subscribe_family(f"compute.node.*.{verb}", self.lives_itself)
        await bus.subscribe_family("compute.node.*.instance", self.instance_changed_itself)

    async def serve(self, bus: Bus) -> None:
        """Answer queries: every replica does, so that one that dies takes no question with it."""
        await bus.serve(subjects.NODES_QUERY, self.query)

    async def announced(self, body: Message) -> Message | None:
        """The answer is for who asks for one: its announcement was not lost."""
        if self._registrar.is_own(body):
            return None
        document = NodeDocument.model_validate(_without(body))
        await self._registrar.announce(document, by_bus=True)
        await self._give_way()
        return {"node_id": document.node_id, "status": "registered"}

    async def beaten(self, body: Message) -> None:
        if not self._registrar.is_own(body):
            await self._registrar.heartbeat(Heartbeat.model_validate(body), by_bus=True)
        await self._give_way()

    async def drained(self, body: Message) -> None:
        if not self._registrar.is_own(body):
            order = NodeDrain.model_validate(body)
            await self._registrar.drain(order.node_id, order.drain)

    async def removed(self, body: Message) -> None:
        if not self._registrar.is_own(body):
            await self._registrar.remove(NodeRemove.model_validate(body).node_id)

    async def instance_changed(self, body: Message) -> None:
        await self._registrar.instance(InstanceEvent.model_validate(body))

    async def benchmarked(self, body: Message) -> None:
        await self._registrar.benchmark(BenchmarkResult.model_validate(body))

    async def lives(self, body: Message) -> None:
        node_id = body.get("node_id")
        if is_identifier(node_id):
            await self._registrar.sign_of_life(str(node_id))

    async def announced_itself(self, subject: str, body: Message) -> None:
        document = {**body, "node_id": _speaker(subject, body), "own_subjects": True}
        await self._registrar.announce(NodeDocument.model_validate(document), by_bus=True)
        await self._give_way()

    async def beaten_itself(self, subject: str, body: Message) -> None:
        await self.beaten({**body, "node_id": _speaker(subject, body)})

    async def lives_itself(self, subject: str, body: Message) -> None:
        await self.lives({"node_id": _speaker(subject, body)})

    async def instance_changed_itself(self, subject: str, body: Message) -> None:
        await self.instance_changed({**body, "node_id": _speaker(subject, body)})

    async def _give_way(self) -> None:
        """Thousands that wait in line let others in between, but not after each: that would be far slower."""
        if time.monotonic() - self._turn_began >= TURN_SECONDS:
            await asyncio.sleep(0)
            self._turn_began = time.monotonic()

    async def query(self, body: Message) -> bytes:
        query = NodeQuery.model_validate(body)
        return query_answer(self._table, query, utc_now(), LARGEST_ANSWER_BYTES).answer_json()


def _without(body: Message) -> Message:
    """That a node has subjects of its own shows in where it speaks, not in what it says."""
    return {key: value for key, value in body.items() if key != "own_subjects"}


def _speaker(subject: str, body: Message) -> str:
    """The node that owns the subject; a message in another's name is refused."""
    node_id = subjects.untoken(subject.split(".")[2])
    if not is_identifier(node_id):
        raise invalid("the subject does not carry a node id")
    if body.get("node_id", node_id) != node_id:
        raise Problem(403, "foreign-node", f"a message of '{node_id}' speaks for another node")
    return node_id
