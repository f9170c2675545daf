"""What the registry does with each message, wherever it came from (REST or NATS)."""

import asyncio
import contextlib
import time
from collections.abc import Iterable

import nats.errors
from prometheus_client import Counter

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import NodeStatus
from compute_common.ids import new_id
from compute_common.lease import Lease, LeaseTerms
from compute_common.problems import Problem, not_found
from compute_common.schemas.base import JsonObject
from compute_common.schemas.benchmark import BenchmarkResult
from compute_common.schemas.node import (
    DrainAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Measured,
    NodeDocument,
    RegisterAnswer,
)
from compute_common.schemas.vllm import InstanceEvent
from compute_common.times import utc_now
from node_registry.answers import event_json, warnings_of
from node_registry.asks import LISTEN_SECONDS, Asks
from node_registry.event_stream import EventStream
from node_registry.instances import facts_of
from node_registry.liveness import beat_seconds
from node_registry.records import Change, Moment
from node_registry.rows import Row
from node_registry.store import Store
from node_registry.table import NodeTable

WRITER = LeaseTerms("COMPUTE_REGISTRY_LEASE", key="writer")
MOST_ACCOUNTS = 100_000
PAUSE_SECONDS = 2.0  # eight ticks
ORIGIN = "published_by"


class Registrar:
    """Applies to the table, remembers for the store, tells the others."""

    def __init__(
        self,
        bus: Bus,
        table: NodeTable,
        store: Store,
        stream: EventStream,
        *,
        events: Counter,
        lease: Lease,
    ) -> None:
        """Of several replicas one holds the lease: it alone publishes node events and writes to the store."""
        self._bus = bus
        self._table = table
        self._store = store
        self._stream = stream
        self._events = events
        self._asks = Asks()
        self.replica_id = new_id("registry")
        self.lease = lease
        self._ticked = time.monotonic()
        self._own_accounts: set[str] = set()

    @staticmethod
    def now(by_bus: bool = True) -> Moment:
        """The present moment; every adapter takes its time here."""
        return Moment(time.monotonic(), utc_now(), by_bus)

    @property
    def is_writer(self) -> bool:
        """While NATS is away, whoever wrote last goes on by itself."""
        return self.lease.held if self._bus.connected else self.lease.last_answer is not False

    # --- what REST asks for: applied here, then published for the other replicas

    async def register(self, document: NodeDocument) -> RegisterAnswer:
        document.own_subjects = None  # shows in where a node speaks on NATS, not in what it says
        document.model_fields_set.discard("own_subjects")
        if document.node_id in self._own_accounts:
            document.own_subjects = True
        await self.announce(document, by_bus=False)
        body = document.model_dump(mode="json", exclude_unset=True)
        if "declared_tier" in body:
            body["tier"] = body.pop("declared_tier")
        await self._tell(subjects.NODES_ANNOUNCE, body)
        row = self._known(document.node_id)
        return RegisterAnswer(
            node_id=row.node_id,
            registered_at=row.record.registered_at,
            tier=row.profile.facets.tier,
            heartbeat_seconds=beat_seconds(row.record.document.heartbeat_seconds, row.record.life.gaps),
            offline_after_seconds=self._table.offline_after_seconds(row.node_id),
            warnings=warnings_of(row),
        )

    async def receive_heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        known = await self.heartbeat(beat, by_bus=False)
        await self._tell(subjects.NODES_HEARTBEAT, beat.model_dump(mode="json", exclude_unset=True))
        return HeartbeatAnswer(node_id=beat.node_id, known=known)

    async def set_drain(self, node_id: str, drain: bool) -> DrainAnswer:
        """404 for a node neither known nor drained."""
        if node_id not in self._table and not (not drain and self._table.is_drained(node_id)):
            raise _unknown(node_id)
        await self.drain(node_id, drain)
        await self._tell(subjects.NODES_DRAIN, {"node_id": node_id, "drain": drain})
        await self.write()  # an operator's word is kept before it is answered
        row = self._table.row(node_id)
        return DrainAnswer(status=row.status if row else NodeStatus.OFFLINE, node_id=node_id)

    async def delete(self, node_id: str) -> None:
        self._known(node_id)
        await self.remove(node_id)
        await self._tell(subjects.NODES_REMOVE, {"node_id": node_id})

    # --- what any message means

    async def announce(self, document: NodeDocument, by_bus: bool) -> None:
        await self.apply(self._table.announce(document, self.now(by_bus)))

    async def heartbeat(self, beat: Heartbeat, by_bus: bool) -> bool:
        """Whether the node is known; one that is not is asked to announce itself again."""
        changes = self._table.heartbeat(beat, self.now(by_bus))
        if changes is None:
            await self._ask_to_announce(beat.node_id)
            return False
        await self.apply(changes)
        return True

    async def sign_of_life(self, node_id: str) -> None:
        await self.apply(self._table.sign_of_life(node_id, self.now()))

    async def drain(self, node_id: str, drain: bool) -> None:
        changed = self._table.is_drained(node_id) != drain
        await self.apply(self._table.drain(node_id, drain))
        if changed:
            self._store.touch_drain(node_id)

    async def remove(self, node_id: str) -> None:
        await self.apply(self._table.remove(node_id, self.now()))

    async def instance(self, event: InstanceEvent) -> None:
        facts, removed = facts_of(event, self.now().mono)
        await self.apply(self._table.instance(event.node_id, facts, removed))

    async def benchmark(self, result: BenchmarkResult) -> None:
        """Speeds of valid cells, kept with the node they were measured on."""
        if result.node_id is None:
            return
        measured = [
            Measured(
                model=name,
                engine=result.engine,
                batch_size=cell.batch_size,
                output_tokens_per_s=cell.output_tokens_per_s,
                measured_at=result.finished_at,
            )
            for name in dict.fromkeys((result.model_name, *result.also_named))
            for cell in result.cells
            if cell.valid
        ]
        if measured:
            await self.apply(self._table.measure(result.node_id, measured))

    async def tick(self) -> None:
        """Let time pass; nobody who speaks over NATS is blamed while it, or this process, stood still."""
        now = self.now().mono
        before, self._ticked = self._ticked, now
        if now - before > PAUSE_SECONDS:
            await self.apply(self._table.tick(before, hearing=False))
        await self.apply(self._table.tick(now, hearing=self._bus.connected))

    async def connection_lost(self, node_id: str, since: float) -> None:
        await self.apply(self._table.connection_lost(node_id, since))

    async def has_account(self, node_id: str) -> None:
        """The NATS server saw it in an account of its own: there it hears its own subjects alone.

        A program that registers over REST and works over plain NATS never announces itself there.
        """
        if len(self._own_accounts) < MOST_ACCOUNTS:
            self._own_accounts.add(node_id)
        row = self._table.row(node_id)
        if row is not None and row.record.document.own_subjects is not True:
            known = {"node_id": node_id, "hostname": row.record.document.hostname, "own_subjects": True}
            await self.announce(NodeDocument.model_validate(known), by_bus=False)

    async def write(self) -> None:
        """Write what changed, where this is the replica that writes; read first what could not be read."""
        if self._store.unread and self._bus.connected:
            await self._store.reload()
        if self.is_writer:
            await self._store.flush()

    async def read_store(self) -> int:
        """How many nodes came back from the store."""
        self._asks.reading(time.monotonic())
        return len(await self._store.reload())

    async def ask_all_to_announce(self) -> None:
        """Everybody at once would be a stampede: the more nodes, the longer they spread their answers."""
        self._asks.listen()
        await asyncio.sleep(LISTEN_SECONDS)
        spread = self._asks.everybody(len(self._table), time.monotonic())
        await self._tell(subjects.NODES_REANNOUNCE, {"node_id": "*", "spread_seconds": spread})

    async def apply(self, changes: Iterable[Change]) -> None:
        """Store and publish what changed."""
        for change in changes:
            self._store.touch(change.node_id)
            self._events.labels(change.event).inc()
            if change.event == "joined":
                self._asks.joined(time.monotonic())
            event = event_json(change.event, change.node_id, self._table.row(change.node_id), utc_now())
            self._stream.publish(change.event, event)
            if self.is_writer:
                await self._tell(subjects.NODES_EVENT, event, mark=False)

    # --- inside

    def is_own(self, body: JsonObject) -> bool:
        """Whether this replica published the message itself; the mark is taken off."""
        return bool(body.pop(ORIGIN, None) == self.replica_id)

    def _known(self, node_id: str) -> Row:
        row = self._table.row(node_id)
        if row is None:
            raise _unknown(node_id)
        return row

    async def _ask_to_announce(self, node_id: str) -> None:
        if not self._asks.may_ask(node_id, time.monotonic()):
            return
        await self._tell(subjects.node_subject(node_id, "reannounce"), {"node_id": node_id}, mark=False)
        if self._asks.may_ask_aloud():
            await self._tell(subjects.NODES_REANNOUNCE, {"node_id": node_id})

    async def _tell(self, subject: str, message: object, mark: bool = True) -> None:
        """Publish where NATS is there; a message that cannot go out is made good at the next connect."""
        if not self._bus.connected:
            return
        if mark and isinstance(message, dict):
            message = {**message, ORIGIN: self.replica_id}
        with contextlib.suppress(Problem, nats.errors.Error):
            await self._bus.publish(subject, message)


def _unknown(node_id: str) -> Problem:
    return not_found("unknown-node", f"no node '{node_id}' is registered; GET /api/v1/nodes lists them")
