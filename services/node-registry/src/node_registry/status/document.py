"""The overview put together, and what changed between two of them. Pure."""

from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from pydantic_core import to_json

from compute_common.enums import Tier
from compute_common.schemas.base import JsonObject, Wire
from compute_common.schemas.node import NodeStats
from node_registry.answers import warnings_of
from node_registry.records import InstanceFacts
from node_registry.rows import Row
from node_registry.status.heard import NOBODY, Heard
from node_registry.status.hosts import node_of, shown_rows
from node_registry.status.models import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_INSTANCES,
    MOST_WARNINGS,
    MemoryAlert,
    Neighbour,
    OverviewGpus,
    OverviewInstance,
    OverviewParts,
    Voice,
    WorkRate,
)
from node_registry.status.versions import mixed, versions_of

MOST_SILENT_NAMED = 20


@dataclass(frozen=True, slots=True)
class Around:
    """What was gathered beside the table."""

    heard: Mapping[str, Heard]
    nats: bool
    nats_detail: str
    queue: JsonObject | None
    work: Voice
    rate: WorkRate | None
    alerts: list[MemoryAlert]


@dataclass(frozen=True, slots=True)
class Document:
    """`hosts`: the JSON of each node in order; `counts` and `parts`: members without braces and time."""

    hosts: Mapping[str, bytes]
    counts: bytes
    parts: bytes
    timestamp: datetime

    def whole(self) -> bytes:
        return self._json([b'"hosts":[' + b",".join(self.hosts.values()) + b"]"])

    def since(self, old: "Document") -> bytes | None:
        """What an `OverviewChanges` tells; None when nothing but time went by."""
        changed = [line for node_id, line in self.hosts.items() if old.hosts.get(node_id) != line]
        gone = [node_id for node_id in old.hosts if node_id not in self.hosts]
        if not changed and not gone and (self.counts, self.parts) == (old.counts, old.parts):
            return None
        return self._json([b'"hosts":[' + b",".join(changed) + b"]", b'"gone":' + to_json(gone)])

    def _json(self, members: Sequence[bytes]) -> bytes:
        at = b'"timestamp":' + to_json(self.timestamp)
        nodes = b'"nodes":{' + self.counts + b"," + at + b"}"
        return b"{" + b",".join((*members, nodes, self.parts, at)) + b"}"


class Lines:
    """The JSON of each node, made again only when its row or its ledger's answer is another."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Row, Heard, bytes]] = {}

    def of(self, rows: Sequence[Row], heard: Mapping[str, Heard]) -> dict[str, bytes]:
        made = {row.node_id: self._line(row, heard.get(row.node_id, NOBODY)) for row in rows}
        self._made = made
        return {node_id: line for node_id, (_row, _heard, line) in made.items()}

    def _line(self, row: Row, heard: Heard) -> tuple[Row, Heard, bytes]:
        old = self._made.get(row.node_id)
        if old is not None and old[0] is row and old[1] is heard:
            return old
        return row, heard, to_json(node_of(row, heard), inf_nan_mode="null")


def document(
    rows: Collection[Row],
    instances: Iterable[tuple[str, InstanceFacts]],
    around: Around,
    lines: Lines,
    now: datetime,
) -> Document:
    """The overview at this moment."""
    shown, left_out = shown_rows(rows)
    counts = stats(rows, now)
    parts = OverviewParts(
        nodes=counts,
        gpus=_gpus(rows),
        instances=all_instances(instances, around.heard),
        queue=around.queue,
        work_rate=around.rate,
        warnings=_warnings(rows, counts.version_warning),
        memory_warnings=around.alerts,
        neighbours=neighbours(around),
        nodes_left_out=left_out,
        timestamp=now,
    )
    return Document(
        lines.of(shown, around.heard),
        _members(parts.nodes, {"timestamp"}),
        _members(parts, {"timestamp", "nodes"}),
        now,
    )


def _members(record: Wire, but: set[str]) -> bytes:
    return record.model_dump_json(exclude=but).encode()[1:-1]


def stats(rows: Collection[Row], now: datetime) -> NodeStats:
    """Counts of nodes; `by_tier` counts every known node."""
    online = sum(row.is_online for row in rows)
    versions = versions_of(rows)
    tiers = Tally(row.profile.facets.tier for row in rows)
    return NodeStats(
        total_nodes=len(rows),
        online_nodes=online,
        offline_nodes=len(rows) - online,
        by_tier={tier.value: tiers[tier] for tier in Tier},
        versions=versions,
        version_warning=mixed(versions),
        timestamp=now,
    )


def all_instances(
    told: Iterable[tuple[str, InstanceFacts]], heard: Mapping[str, Heard]
) -> list[OverviewInstance]:
    """By name; an orchestrator that answers tells more than its events do (a failed start, say)."""
    found = {
        (node_id, facts.instance_name): OverviewInstance(
            node_id=node_id,
            instance_name=facts.instance_name[:LONGEST_NAME],
            model_name=facts.model_name[:LONGEST_NAME],
            status=facts.status,
        )
        for node_id, facts in told
    }
    for node_id, host in heard.items():
        for each in host.instances:
            known = found.get((node_id, each.instance_name))
            if known is None or known.status is each.status:  # else the event is the later word
                found[node_id, each.instance_name] = each
    ordered = sorted(found.values(), key=lambda each: (each.instance_name, each.node_id))
    return ordered[:MOST_INSTANCES]


def neighbours(around: Around) -> list[Neighbour]:
    """Who was asked and who answered."""
    nats = Neighbour(
        name="nats",
        voice=Voice.ANSWERS if around.nats else Voice.SILENT,
        answered=int(around.nats),
        detail=None if around.nats else around.nats_detail,
    )
    work = Neighbour(name="work-marshaling", voice=around.work, answered=int(around.work is Voice.ANSWERS))
    ledgers = {node_id: heard.ledger for node_id, heard in around.heard.items()}
    engines = {node_id: heard.engines for node_id, heard in around.heard.items()}
    return [nats, work, _programs("gpu-orchestrator", ledgers), _programs("vllm-orchestrator", engines)]


def _programs(name: str, voices: Mapping[str, Voice]) -> Neighbour:
    asked = {node_id: voice for node_id, voice in voices.items() if voice is not Voice.UNASKED}
    mute = sorted(node_id for node_id, voice in asked.items() if voice is not Voice.ANSWERS)
    voice = Voice.UNASKED
    if asked:
        voice = Voice.SILENT if mute else Voice.ANSWERS
    return Neighbour(
        name=name,
        voice=voice,
        asked=len(asked),
        answered=len(asked) - len(mute),
        silent=mute[:MOST_SILENT_NAMED],
    )


def _gpus(rows: Iterable[Row]) -> OverviewGpus:
    online = [row for row in rows if row.is_online]
    return OverviewGpus(
        count=sum(row.profile.facets.gpu_count for row in online),
        total_mb=sum(row.profile.facets.vram_mb for row in online),
        available_mb=sum(row.available_vram_mb or 0 for row in online),
    )


def _warnings(rows: Iterable[Row], of_versions: str | None) -> list[str]:
    of_nodes = (f"{row.node_id}: {text}"[:LONGEST_TEXT] for row in rows for text in warnings_of(row))
    found = chain([of_versions[:LONGEST_TEXT]] if of_versions else [], of_nodes)
    return [text for text, _place in zip(found, range(MOST_WARNINGS), strict=False)]
