"""The fold as bytes and back: rows of JSON, short for what waits, made while the fold goes on.

The format is ours and numbered; another number, or anything that does not read, is no snapshot.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, astuple, fields
from operator import attrgetter
from typing import Any

from compute_common import wire_json
from compute_common.enums import WorkStatus
from work_marshaling.blacklist import Record
from work_marshaling.items import Demand, Failure, Item, Step
from work_marshaling.kept import Limits
from work_marshaling.leadership import Leadership
from work_marshaling.outcome import Totals
from work_marshaling.state import WorkState

FORMAT = 1
ROWS = 500  # a part: some two milliseconds to make
_LENGTH = struct.Struct(">I")

# A row is `Item`'s fields in their order, without the defaults at its end: append new fields, never insert.
_NAMES = tuple(each.name for each in fields(Item) if each.compare)
_DEFAULTS = tuple(each.default for each in fields(Item) if each.compare)
_values = attrgetter(*_NAMES)
_AT = {name: place for place, name in enumerate(_NAMES)}


class UnreadableError(Exception):
    """It is not a snapshot of this format."""


class Capture:
    """The fold as it is now, though it goes on: what is about to change is written down before it does."""

    def __init__(self, state: WorkState) -> None:
        self.position = state.position
        self._state = state
        self._items = list(state.items.values())
        self._written_seq = 0
        self._last_seq = state.position
        self._early: dict[int, list[Any]] = {}
        self._demands: dict[Demand, int] = {}
        self._told = 0  # so many of them are in the parts that were made
        self._head = _packed(_head(state))
        state.before_change = self._keep

    def parts(self) -> Iterator[bytes]:
        """The snapshot piece by piece; between two of them the fold may go on."""
        yield self._head
        for start in range(0, len(self._items), ROWS):
            chunk = self._items[start : start + ROWS]
            rows = [self._early.pop(item.seq, []) or self._row(item) for item in chunk]
            self._written_seq = chunk[-1].seq
            demands = list(self._demands)[self._told :]
            self._told = len(self._demands)
            yield _packed({"demands": demands, "rows": rows})

    def end(self) -> None:
        if self._state.before_change == self._keep:
            self._state.before_change = None

    def _keep(self, item: Item) -> None:
        """Items are in the order of their sequences: what is between the two is still to be written."""
        if self._written_seq < item.seq <= self._last_seq and item.seq not in self._early:
            self._early[item.seq] = self._row(item)

    def _row(self, item: Item) -> list[Any]:
        row = list(_values(item))
        row[_AT["demand"]] = self._demands.setdefault(item.demand, len(self._demands))
        if item.fingerprint is not None:
            row[_AT["fingerprint"]] = item.fingerprint.hex()
        if item.failing is not None:
            row[_AT["failing"]] = astuple(item.failing)
        while row[-1] == _DEFAULTS[len(row) - 1]:
            row.pop()
        return row


def restored(data: bytes, limits: Limits) -> Iterator[WorkState]:
    """The fold: the same object after every part, so that others can have a turn. `UnreadableError`."""
    try:
        parts = _unpacked(data)
        head = next(parts)
        if head.get("format") != FORMAT:
            raise UnreadableError("it has another format")
        state = _state_of(head, limits)
        demands: list[Demand] = []
        for part in parts:
            demands += [_demand(each) for each in part["demands"]]
            for row in part["rows"]:
                state.adopt(_item(row, demands))
            yield state
        if len(state.items) != head["items"]:
            raise UnreadableError("a part is missing")
        state.settle()
        yield state
    except (StopIteration, ValueError, KeyError, TypeError, IndexError, zlib.error, struct.error) as error:
        raise UnreadableError(type(error).__name__) from error


def _head(state: WorkState) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "position": state.position,
        "items": len(state.items),
        "totals": asdict(state.totals),
        "ignored": state.ignored,
        "leadership": asdict(state.leadership),
        "moved": state.moved,
        "blacklist": [(node, kind, asdict(record)) for node, kind, record in state.blacklist.records()],
    }


def _state_of(head: dict[str, Any], limits: Limits) -> WorkState:
    state = WorkState(limits)
    state.position = head["position"]
    state.totals = Totals(**head["totals"])
    state.ignored.update(head["ignored"])
    state.leadership = Leadership(**head["leadership"])
    state.moved = head["moved"]
    for node, kind, record in head["blacklist"]:
        state.blacklist.put(node, kind, Record(**record))
    return state


def _demand(values: list[Any]) -> Demand:
    demand = Demand(*values)
    return demand._replace(labels=tuple((key, value) for key, value in demand.labels))


def _item(row: list[Any], demands: list[Demand]) -> Item:
    item = Item(*row)
    item.demand = demands[row[_AT["demand"]]]
    item.status = WorkStatus(item.status)
    if len(row) > _AT["fingerprint"]:
        _decode(item)
    return item


def _decode(item: Item) -> None:
    """What JSON has no word for."""
    if item.fingerprint is not None:
        item.fingerprint = bytes.fromhex(item.fingerprint)  # type: ignore[arg-type]
    if item.failing is not None:
        item.failing = Failure(*item.failing)  # type: ignore[misc]
    item.failed_on = tuple(item.failed_on)
    item.history = tuple(Step(*step) for step in item.history)


def _packed(part: dict[str, Any]) -> bytes:
    data = zlib.compress(wire_json.dump(part), 1)
    return _LENGTH.pack(len(data)) + data


def _unpacked(data: bytes) -> Iterator[dict[str, Any]]:
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield wire_json.parse_object(zlib.decompress(data[at : at + length]))
        at += length
