"""Reading a whole work log back, and judging it: every item ends once, nobody decides out of turn."""

from collections import Counter

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from work_marshaling.events import Record
from work_marshaling.kept import Limits
from work_marshaling.log_reader import FOLLOWS
from work_marshaling.state import WorkState


async def records_of(bus: Bus) -> list[Record]:
    """Every message the log has, in order."""
    js = bus.jetstream()
    info = await js.stream_info(WORK_STREAM)
    subscription = await js.subscribe(">", stream=WORK_STREAM, ordered_consumer=True)
    records = []
    for _ in range(info.state.messages):
        message = await subscription.next_msg(10)
        meta = message.metadata
        follows = (message.headers or {}).get(FOLLOWS)
        seq, at = meta.sequence.stream, meta.timestamp.timestamp()
        records.append(Record(seq, at, message.subject, message.data, int(follows) if follows else None))
    await subscription.unsubscribe()
    return records


def judged(records: list[Record], limits: Limits | None = None) -> WorkState:
    """The fold of the log. Asserts that no item ended twice."""
    state = WorkState(limits or Limits())
    ends: Counter[int] = Counter()
    for record in records:
        for part in state.apply(record).each():
            if part.item is not None and part.event in ("completed", "failed", "cancelled"):
                ends[part.item.seq] += 1
    assert set(ends.values()) <= {1}
    assert {item.seq for item in state.items.values() if item.status.final} == set(ends)
    return state


def leaders(records: list[Record]) -> list[tuple[int, str]]:
    """`(sequence, name)` of every claim of the lead."""
    return [(record.seq, body["by"]) for record, body in _decisions(records) if body["decision"] == "lead"]


def decided_out_of_turn(records: list[Record]) -> list[Record]:
    """Decisions by one who had been replaced: the server is to refuse every one."""
    claims, found = leaders(records), []
    for record, body in _decisions(records):
        now = [name for seq, name in claims if seq <= record.seq]
        if not now or body["by"] != now[-1]:
            found.append(record)
    return found


def _decisions(records: list[Record]) -> list[tuple[Record, dict[str, str]]]:
    return [
        (record, wire_json.parse_object(record.body))
        for record in records
        if record.subject == subjects.WORK_DECIDED
    ]
