"""Leaders come, stand still and wake up; messages repeat, change places and are forged: one end per item.

The server's part is played by one rule: a compare-and-set is recorded if nobody decided since. Every leader
decides by what it has read so far, which may be old.
"""

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from compute_common import subjects
from compute_common.enums import WorkStatus
from tests.unit.work_marshaling.records import BASE, Log, at
from work_marshaling import leases
from work_marshaling.events import MARSHALER, Record
from work_marshaling.items import Item
from work_marshaling.snapshot import Capture, restored
from work_marshaling.state import WorkState

MARSHALERS = some.sampled_from(["one", "two", "three"])
NODES = some.sampled_from(["n", "m.1"])
RULE = leases.RetryRule(retries=2, poison_nodes=2)


class Replica:
    """A marshaler: the log as far as it has read it, and what it decided but could not say yet."""

    def __init__(self, log: Log) -> None:
        self.state = WorkState(log.limits)
        self.drafts: list[tuple[dict[str, Any], int]] = []

    def read(self, records: list[Record]) -> None:
        for record in records:
            self.state.apply(record)


class Leaders(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.log = Log()
        self.replicas = {name: Replica(self.log) for name in ("one", "two", "three")}
        self.ends: dict[int, tuple[WorkStatus, str | None]] = {}
        self.claims: list[str] = []
        self.log.submit("a", payload={"n": 0})
        self.log.submit("b", max_retries=1)
        self.send({"decision": "lead", "by": "one", "v": 2}, 0)

    # --- the server

    def send(self, body: dict[str, Any], follows: int) -> bool:
        """Whether the server records the decision."""
        if follows != self.log.state.leadership.decided_seq:
            return False
        outcome = self.log.add(subjects.WORK_DECIDED, body, follows=follows)
        if body["decision"] == "lead":
            assert outcome.event == "lead"
            self.claims.append(body["by"])
        elif outcome.event != "ignored":
            assert body["by"] == self.claims[-1], "one who was replaced decided"
        return True

    # --- marshalers

    @rule(name=MARSHALERS, share=some.floats(0, 1))
    def read(self, name: str, share: float) -> None:
        replica = self.replicas[name]
        left = self.log.records[replica.state.position :]
        replica.read(left[: round(len(left) * share)])

    @rule(name=MARSHALERS)
    def claim(self, name: str) -> None:
        state = self.replicas[name].state
        self.send({"decision": "lead", "by": name, "v": 2}, state.leadership.decided_seq)

    @rule(name=MARSHALERS, node=NODES, fenced=some.booleans())
    def draft(self, name: str, node: str, fenced: bool) -> None:
        """Decide by what was read: give away what waits, judge what failed. It may be said much later."""
        state = self.replicas[name].state
        body: dict[str, Any] = {"decision": "decide", "by": name, "epoch": state.epoch}
        body |= {"assign": [], "retry": [], "fail": []}
        for item in state.items.values():
            if item.waiting:
                body["assign"].append(assignment(item, node, fenced, self.log.now))
            elif item.failing is not None:
                verdict = leases.verdict(item, item.failing, BASE + self.log.now, RULE)
                body["fail" if verdict.get("final") else "retry"].append(verdict)
        self.replicas[name].drafts.append((body, state.leadership.decided_seq))

    @precondition(lambda self: any(each.drafts for each in self.replicas.values()))
    @rule(data=some.data(), again=some.booleans())
    def say(self, data: some.DataObject, again: bool) -> None:
        """Any draft of anybody in any order, some twice: an acknowledgement was lost."""
        able = sorted(name for name, each in self.replicas.items() if each.drafts)
        drafts = self.replicas[data.draw(some.sampled_from(able))].drafts
        place = data.draw(some.integers(0, len(drafts) - 1))
        body, follows = drafts[place] if again else drafts.pop(place)
        self.send(body, follows)

    # --- everybody else

    @rule(name=some.none() | some.sampled_from(["a", "b", "c"]), payload=some.integers(0, 1))
    def submit(self, name: str | None, payload: int) -> None:
        self.log.submit(name, payload={"n": payload})

    @rule(
        name=some.sampled_from(["a", "b"]),
        verb=some.sampled_from(["completed", "failed", "progress"]),
        attempt=some.none() | some.integers(1, 4),
        node=some.none() | NODES,
    )
    def report(self, name: str, verb: str, attempt: int | None, node: str | None) -> None:
        before = copy.copy(self.log.state.items[name])
        more = {key: value for key, value in (("attempt", attempt), ("node_id", node)) if value is not None}
        outcome = self.log.add(f"compute.work.{verb}.v1", {"work_id": name, **more})
        if outcome.event != "ignored":
            assert before.status is WorkStatus.ASSIGNED
            assert attempt in (None, before.attempt)
            assert node == before.holder or (node is None and not before.fenced)

    @rule(data=some.data())
    def repeat(self, data: some.DataObject) -> None:
        """Any message once more, also a decision, by anybody: not as a compare-and-set that passes."""
        record = data.draw(some.sampled_from(self.log.records))
        before = picture(self.log.state)
        self.log.add(record.subject, record.body)
        if record.subject in (subjects.WORK_DECIDED, subjects.WORK_ASSIGNED, subjects.WORK_RETRIED):
            assert picture(self.log.state) == before

    @rule(
        name=some.sampled_from(["a", "b"]),
        attempt=some.integers(0, 4),
        what=some.sampled_from(["assigned", "retried", "failed", "lead", "decide", "move", "store"]),
        epoch=some.integers(0, 1 << 53),
    )
    def forge(self, name: str, attempt: int, what: str, epoch: int) -> None:
        state = self.log.state
        before = picture(state)
        body = {
            "work_id": name,
            "node_id": "evil",
            "attempt": attempt,
            "epoch": epoch,
            "error": "x",
            "reason": "x",
        }
        body |= {"by": MARSHALER, "final": True, "not_before": at(1e6), "expires_at": at(1e6)}
        if what in ("lead", "decide", "move", "store"):
            inner = {"assign": [body], "fail": [body], "retry": [body]}
            place = {"move": {"from_seq": 1, "submission": {}, **body}, "store": {"object_name": "x", **body}}
            chosen = {what: place[what]} if what in place else inner
            forged = {"decision": what, "by": state.leader, "epoch": state.epoch, **chosen}
            self.log.add(subjects.WORK_DECIDED, forged)
        else:
            self.log.add(f"compute.work.{what}.v1", body)
        assert picture(state) == before

    @rule(name=some.sampled_from(["a", "b"]))
    def cancel(self, name: str) -> None:
        self.log.add(subjects.WORK_CANCELLED, {"work_id": name})

    @rule(seconds=some.integers(1, 1000))
    def time_passes(self, seconds: int) -> None:
        self.log.now += seconds

    @rule(name=MARSHALERS)
    def restart(self, name: str) -> None:
        """From a snapshot of what the replica had read."""
        replica = self.replicas[name]
        *_, replica.state = restored(b"".join(Capture(replica.state).parts()), self.log.limits)

    # --- what must hold

    @invariant()
    def one_end(self) -> None:
        for item in self.log.state.items.values():
            if item.status.final:
                end = (item.status, item.last_node)
                assert self.ends.setdefault(item.seq, end) == end
            else:
                assert item.seq not in self.ends

    @invariant()
    def epochs_grow(self) -> None:
        for replica in self.replicas.values():
            assert replica.state.epoch <= self.log.state.epoch

    def teardown(self) -> None:
        """A leader that has read everything brings every item to its end; the replicas agree in all."""
        if not hasattr(self, "log"):
            return
        replica = self.replicas["one"]
        replica.drafts.clear()
        for _ in range(8):
            replica.read(self.log.records)
            if replica.state.leader != "one":
                self.claim("one")
                continue
            self.draft("one", "n", fenced=True)
            self.send(*replica.drafts.pop())
            for item in list(self.log.state.items.values()):
                if item.status is WorkStatus.ASSIGNED:
                    self.log.complete(item.work_id, node_id=item.holder, attempt=item.attempt)
        assert all(item.status.final for item in self.log.state.items.values())
        for other in self.replicas.values():
            other.read(self.log.records)
            assert picture(other.state) == picture(self.log.state)


def assignment(item: Item, node: str, fenced: bool, now: float) -> dict[str, Any]:
    body = {"work_id": item.work_id, "node_id": node, "attempt": item.attempt + 1, "fenced": fenced}
    return {**body, "expires_at": at(now + 300)}


def picture(state: WorkState) -> tuple[Any, ...]:
    """Everything that decides what is so; neither the position nor the counts of what was ignored."""
    items = {name: copy.copy(item) for name, item in state.items.items()}
    for item in items.values():
        item.delivered = False  # an assignment that was told, truly or not, is no part of the truth
    blacklist = sorted((node, kind, str(record)) for node, kind, record in state.blacklist.records())
    held = {node: sorted(ids) for node, ids in state.held.items()}
    return (items, held, +state.counts, copy.copy(state.totals), state.epoch, state.leader, blacklist)


Leaders.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestLeaders = Leaders.TestCase
