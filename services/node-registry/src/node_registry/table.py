"""The node table: every fact about every node, changed by messages and by time.

Pure: no I/O and no clock; each call is handed its moment and answers with the changes others should hear of.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from compute_common import wire_json
from compute_common.enums import NodeStatus
from compute_common.problems import Problem, unavailable
from compute_common.schemas.node import Heartbeat, Measured, Node, NodeDocument
from node_registry.answers import node_model
from node_registry.deadlines import Deadlines
from node_registry.documents import boots_after, merge, same
from node_registry.facets import Kinds
from node_registry.index import NodeIndex
from node_registry.instances import InstanceTable
from node_registry.liveness import Life, beaten, seen
from node_registry.profiles import Profile, profile_of
from node_registry.records import Boots, Change, InstanceFacts, Moment, NodeRecord
from node_registry.rows import Row, status_of
from node_registry.tombstones import Tombstones
from node_registry.transitions import event_between, is_worth_telling, merged_beat, merged_measurements

DEADLINES_WITHOUT_A_TWIN = 4


class NodeTable:
    """`max_nodes` and `max_document_bytes` bound what hostile announcements can make it hold."""

    def __init__(
        self, register_ttl_seconds: float = 600, max_nodes: int = 20_000, max_document_bytes: int = 256 * 1024
    ) -> None:
        self._ttl = register_ttl_seconds
        self._max_nodes = max_nodes
        self._max_document_bytes = max_document_bytes
        self._index = NodeIndex()
        self._tombstones = Tombstones(max_nodes)
        self._deadlines = Deadlines()
        self._drains: set[str] = set()
        self._instances = InstanceTable()
        self._deaf_since: float | None = None

    # --- reading

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._rows

    def record(self, node_id: str) -> NodeRecord | None:
        row = self._rows.get(node_id)
        return row.record if row else None

    def row(self, node_id: str) -> Row | None:
        return self._rows.get(node_id)

    def is_drained(self, node_id: str) -> bool:
        return node_id in self._drains

    @property
    def drains(self) -> frozenset[str]:
        """Nodes an operator drains, known or not."""
        return frozenset(self._drains)

    def node(self, node_id: str) -> Node | None:
        """The node as lists answer it."""
        row = self._rows.get(node_id)
        return node_model(row) if row else None

    def rows(self) -> Iterable[Row]:
        """Every node, in no order; to be read before anything else happens to the table."""
        return self._rows.values()

    @property
    def rows_by_id(self) -> Mapping[str, Row]:
        return self._rows

    @property
    def kinds(self) -> Kinds:
        """The kinds of the nodes."""
        return self._index.kinds

    def by_id(self, after: str) -> Iterator[Row]:
        """Nodes with greater ids than `after`, in order; to be read before anything else happens."""
        return self._index.by_id(after)

    def ranked(self) -> Iterator[Row]:
        """Every node, best first; to be read before anything else happens to the table."""
        return self._index.ranked()

    def instances(self) -> Iterator[tuple[str, InstanceFacts]]:
        """Every model instance heard of, with its node's id."""
        return self._instances.all()

    def offline_after_seconds(self, node_id: str) -> float:
        """The silence this node is allowed now."""
        row = self._rows[node_id]
        return row.deadline - row.record.life.last_seen

    # --- messages of nodes

    def announce(self, document: NodeDocument, at: Moment) -> list[Change]:
        """A whole or partial document. Raises `Problem` when it, or the table, would grow too large."""
        old = self.record(document.node_id)
        merged = merge(old.document if old else None, document)
        self._check_size(merged)
        if old is None:
            changes = self._make_room()
            self._tombstones.revive(document.node_id)
            life = Life(at.mono, heard_by_bus=at.by_bus)
            self._put(
                NodeRecord(merged, registered_at=at.wall, life=life, boots=Boots(current=document.boot_id))
            )
            return [*changes, Change("joined", document.node_id)]
        life = seen(old.life, at.mono, at.by_bus)
        boots = self._boots_after(old, document.boot_id, at)
        self._put(replace(old, document=merged, life=life, online=True, boots=boots))
        if not old.online:
            return [Change("joined", document.node_id)]
        changed = not same(old.document, merged) or boots.cloned != old.boots.cloned
        return [Change("updated", document.node_id)] if changed else []

    def heartbeat(self, beat: Heartbeat, at: Moment) -> list[Change] | None:
        """A heartbeat; None when the node is not known and should announce itself."""
        old = self.record(beat.node_id)
        if old is None:
            return None
        goodbye = beat.status is NodeStatus.OFFLINE
        new = replace(
            old,
            life=beaten(old.life, at.mono, at.by_bus),
            online=not goodbye,
            beat=merged_beat(old.beat, beat),
            last_heartbeat=at.wall,
            boots=self._boots_after(old, beat.boot_id, at),
        )
        return self._transition(old, new)

    def sign_of_life(self, node_id: str, at: Moment) -> list[Change]:
        """Any other message of a node; nothing for an unknown one."""
        old = self.record(node_id)
        if old is None:
            return []
        return self._transition(old, replace(old, life=seen(old.life, at.mono, at.by_bus), online=True))

    def connection_lost(self, node_id: str, since: float) -> list[Change]:
        """The node's connection to NATS ended at `since`: it is offline unless it was heard after that."""
        record = self.record(node_id)
        if record is None or not record.online or record.life.last_seen > since:
            return []
        return [self._set_offline(record)]

    # --- operators

    def drain(self, node_id: str, drain: bool) -> list[Change]:
        """Set or lift an operator's drain; idempotent, kept for a node not (yet) known."""
        if drain == (node_id in self._drains):
            return []
        if drain:
            self._check_drains()
            self._drains.add(node_id)
        else:
            self._drains.discard(node_id)
        if node_id not in self._rows:
            return []
        self._rebuild(node_id)
        return [Change("draining" if drain else "updated", node_id)]

    def remove(self, node_id: str, at: Moment | None = None) -> list[Change]:
        """Forget a node; a drain of it stays.

        With a moment given (an operator's word) a tombstone stays for an hour: no store brings the node back,
        only its own announcement does.
        """
        if at is not None and node_id in self._rows:
            self.bury(node_id, at)
        return [Change("removed", node_id)] if self._index.drop(node_id) else []

    def bury(self, node_id: str, at: Moment) -> None:
        """Remember that the node was removed."""
        self._tombstones.bury(node_id, at)

    def tombstone(self, node_id: str) -> Moment | None:
        return self._tombstones.get(node_id)

    # --- what others know of a node

    def instance(self, node_id: str, facts: InstanceFacts, removed: bool) -> list[Change]:
        """An instance changed or was confirmed."""
        if not self._instances.apply(node_id, facts, removed):
            return []
        return self._refreshed(node_id)

    def measure(self, node_id: str, measured: Iterable[Measured]) -> list[Change]:
        """Speeds a benchmark measured on a node; the newest per model, engine and batch size stays."""
        old = self.record(node_id)
        if old is None:
            return []
        self._put(replace(old, measured=merged_measurements(old.measured, measured)))
        return [Change("updated", node_id)]

    # --- time

    def tick(self, now: float, hearing: bool = True) -> list[Change]:
        """Nodes past their deadline go offline.

        While the registry itself hears nothing (`hearing` False: NATS is away) no node that speaks over NATS
        is blamed for its silence; the time of deafness is not counted afterwards either.
        """
        self._mind_deafness(now, hearing)
        self._tombstones.forget(now)
        changes = [self._set_offline(row.record) for row in self._overdue(now, hearing)]
        for node_id in self._instances.expire(now) if hearing else ():
            changes += self._refreshed(node_id)
        return changes

    def restore(self, records: Iterable[NodeRecord], drains: Iterable[str]) -> list[str]:
        """Take in what was stored; what is known already is fresher and stays. The ids that were added."""
        added = []
        for record in records:
            buried = record.node_id in self._tombstones
            if not buried and record.node_id not in self._rows and len(self._rows) < self._max_nodes:
                self._put(record)
                added.append(record.node_id)
        for node_id in drains:
            self._drains.add(node_id)
            if node_id in self._rows:
                self._rebuild(node_id)
        return added

    # --- inside

    @property
    def _rows(self) -> Mapping[str, Row]:
        return self._index.rows

    def _put(self, record: NodeRecord) -> None:
        """Take in a record; what only its document decides is kept while that stays the same object."""
        row = self._rows.get(record.node_id)
        same_profile = (
            row is not None
            and row.record.document is record.document
            and row.record.measured is record.measured
        )
        self._place(record, row.profile if row is not None and same_profile else None)

    def _rebuild(self, node_id: str) -> None:
        """Its drain or its instances changed."""
        self._place(self._rows[node_id].record, None)

    def _place(self, record: NodeRecord, profile: Profile | None) -> None:
        node_id = record.node_id
        profile = profile or profile_of(record, self._instances.of(node_id))
        row = self._index.place(
            record, profile, drained=node_id in self._drains, register_ttl_seconds=self._ttl
        )
        if record.online:
            self._deadlines.remind(node_id, row.deadline)

    def _boots_after(self, old: NodeRecord, boot_id: str | None, at: Moment) -> Boots:
        quiet_seconds = DEADLINES_WITHOUT_A_TWIN * self.offline_after_seconds(old.node_id)
        return boots_after(old.boots, boot_id, at.mono, quiet_seconds)

    def _transition(self, old: NodeRecord, new: NodeRecord) -> list[Change]:
        self._put(new)
        drained = new.node_id in self._drains
        before, after = status_of(old, drained), status_of(new, drained)
        if before is not after:
            return [Change(event_between(before, after), new.node_id)]
        return [Change("updated", new.node_id)] if is_worth_telling(old, new) else []

    def _refreshed(self, node_id: str) -> list[Change]:
        if node_id not in self._rows:
            return []
        self._rebuild(node_id)
        return [Change("updated", node_id)]

    def _overdue(self, now: float, hearing: bool) -> list[Row]:
        found = []
        for node_id in self._deadlines.due(now):
            row = self._rows.get(node_id)
            if row is None or not row.is_online:
                continue
            excused = row.record.life.heard_by_bus and not hearing
            if row.deadline < now and not excused:
                found.append(row)
            else:
                self._deadlines.remind(node_id, max(row.deadline, now))
        return found

    def _set_offline(self, record: NodeRecord) -> Change:
        self._put(replace(record, online=False))
        return Change("offline", record.node_id)

    def _mind_deafness(self, now: float, hearing: bool) -> None:
        if not hearing:
            self._deaf_since = now if self._deaf_since is None else self._deaf_since
            return
        if self._deaf_since is None:
            return
        self._instances.grant(now - self._deaf_since)
        for record in [row.record for row in self._rows.values()]:
            if record.online and record.life.heard_by_bus and record.life.last_seen < now:
                silent_before = max(0.0, self._deaf_since - record.life.last_seen)
                life = replace(record.life, last_seen=max(record.life.last_seen, now - silent_before))
                self._put(replace(record, life=life))
        self._deaf_since = None

    def _check_size(self, document: NodeDocument) -> None:
        size = len(wire_json.dump(document))
        if size > self._max_document_bytes:
            raise Problem(
                413,
                "document-too-large",
                f"the node's document is {size} bytes as JSON; at most {self._max_document_bytes} are kept",
            )

    def _make_room(self) -> list[Change]:
        if len(self._rows) < self._max_nodes:
            return []
        silent = [row.record for row in self._rows.values() if not row.record.online]
        if not silent:
            raise unavailable("registry-full", f"the registry holds {self._max_nodes} nodes, all online")
        return self.remove(min(silent, key=lambda record: record.life.last_seen).node_id)

    def _check_drains(self) -> None:
        if len(self._drains) >= self._max_nodes:
            raise unavailable("registry-full", f"the registry holds {self._max_nodes} drains")
