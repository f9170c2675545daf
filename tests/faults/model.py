"""The rules of the work log, read a second time: a naive fold that shares no code with the service.

It keeps whole bodies and knows the sizes and shapes that the fault runs send, no others. Where it and the
service disagree about an item, one of them is wrong.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FINAL = ("completed", "failed", "cancelled")
WORK = "compute.work."
NODE = "compute.node."


class Entry(NamedTuple):
    """One message of the log. `follows`: what the server compared with the subject's last sequence."""

    seq: int
    time: float
    subject: str
    body: bytes
    follows: int | None = None


@dataclass
class Known:
    """What the model knows of an item. `ends` holds every end that was reached: one, if all is well."""

    status: str = "pending"
    attempt: int = 0
    holder: str | None = None
    fenced: bool = False
    undecided: bool = False  # an attempt failed, and the leader has not said what follows
    result: Any = None
    ends: list[str] = field(default_factory=list)


class Model:
    """`read` every entry in order. `disorder` lists what a server must never have let in."""

    def __init__(self) -> None:
        self.items: dict[str, Known] = {}
        self.disorder: list[str] = []
        self.leader = ""
        self.epoch = 0
        self.last_decision = 0

    def read_all(self, entries: Iterable[Entry]) -> "Model":
        for entry in entries:
            self.read(entry)
        return self

    def read(self, entry: Entry) -> None:
        try:
            body = json.loads(entry.body)
        except ValueError:
            body = None
        kind = _kind(entry.subject)
        if isinstance(body, dict):
            if kind in ("submit", "request"):
                self._submitted(entry, body)
            elif kind == "decided":
                self._decided(entry, body)
            else:
                self._reported(entry, kind, body)
        if kind == "decided":
            self.last_decision = entry.seq

    def _submitted(self, entry: Entry, body: dict[str, Any]) -> None:
        kind, work_id = body.get("work_type"), body.get("work_id", f"w-{entry.seq}")
        if isinstance(kind, str) and kind and isinstance(work_id, str):
            self.items.setdefault(work_id, Known())

    # --- decisions

    def _decided(self, entry: Entry, body: dict[str, Any]) -> None:
        if entry.follows is None:
            return
        if entry.follows != self.last_decision:
            self.disorder.append(f"decision {entry.seq} compared with {entry.follows}")
        if body["decision"] == "lead":
            self.epoch = max(self.epoch + 1, int(entry.time))
            self.leader = body["by"]
        elif body["decision"] == "decide" and (body["by"], body["epoch"]) == (self.leader, self.epoch):
            self._retry(body["retry"])
            self._assign(body["assign"])
            self._give_up(body["fail"])

    def _retry(self, decisions: list[dict[str, Any]]) -> None:
        for said in decisions:
            item = self._open(said)
            if item and said["attempt"] == item.attempt and (item.status == "assigned" or item.undecided):
                item.status, item.holder, item.undecided = "pending", None, False

    def _assign(self, decisions: list[dict[str, Any]]) -> None:
        for said in decisions:
            item = self._open(said)
            free = item and item.status == "pending" and not item.undecided
            if item and free and said["attempt"] == item.attempt + 1:
                item.status, item.attempt, item.holder = "assigned", said["attempt"], said["node_id"]
                item.fenced = said.get("fenced", False)

    def _give_up(self, decisions: list[dict[str, Any]]) -> None:
        for said in decisions:
            item = self._open(said)
            if item and said["attempt"] == item.attempt:
                _end(item, "failed")

    # --- reports

    def _reported(self, entry: Entry, kind: str, body: dict[str, Any]) -> None:
        item = self._open(body)
        if item is None or (kind == "failed" and body.get("final")):
            return
        if kind == "cancelled":
            _end(item, "cancelled")
            return
        node = _speaker(entry.subject) or body.get("node_id")
        if kind not in ("completed", "failed") or not _believed(item, node, body.get("attempt")):
            return
        if kind == "completed":
            item.result = body.get("result")
            _end(item, "completed")
        elif body.get("retryable", True) or body.get("leaving", False):
            item.status, item.holder, item.undecided = "pending", None, True
        else:
            _end(item, "failed")

    def _open(self, body: dict[str, Any]) -> Known | None:
        work_id = body.get("work_id")
        item = self.items.get(work_id) if isinstance(work_id, str) else None
        return item if item is not None and item.status not in FINAL else None


def _kind(subject: str) -> str:
    return subject.split(".")[-1 if subject.startswith(NODE) else 2]


def _speaker(subject: str) -> str | None:
    """The node that a subject of the second family names."""
    return subject.split(".")[2].replace("=2E", ".") if subject.startswith(NODE) else None


def _believed(item: Known, node: Any, attempt: Any) -> bool:
    if item.status != "assigned" or attempt not in (None, item.attempt):
        return False
    return not item.fenced if node is None else node == item.holder


def _end(item: Known, status: str) -> None:
    item.ends.append(status)
    item.status, item.holder, item.undecided = status, None, False
