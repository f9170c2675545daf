"""No sequence of events breaks the fold: one end per item, counts that add up, replay = live."""

import copy
from collections import Counter
from typing import Any

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from compute_common import subjects
from compute_common.enums import WorkStatus
from tests.unit.work_marshaling.records import BASE, Log, at
from work_marshaling import leases
from work_marshaling.items import Item
from work_marshaling.state import WorkState

NAMES = strategies.sampled_from(["a", "b"])
NODES = strategies.sampled_from(["n", "m.1"])
ATTEMPTS = strategies.integers(1, 3)
RULE = leases.RetryRule(retries=2)


class Queue(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.log = Log()
        self.ends: dict[int, tuple[WorkStatus, int | None]] = {}
        self.log.submit("a", payload={"n": 0})
        self.log.submit("b", payload={"n": 0}, max_retries=1)

    @rule(
        name=strategies.none() | NAMES,
        payload=strategies.integers(0, 2),
        retries=strategies.none() | ATTEMPTS,
    )
    def submit(self, name: str | None, payload: int, retries: int | None) -> None:
        self.log.submit(name, payload={"n": payload}, max_retries=retries)

    @rule(name=NAMES, node=NODES, fenced=strategies.booleans(), data=strategies.data())
    def assign(self, name: str, node: str, fenced: bool, data: strategies.DataObject) -> None:
        item = self.log.state.items.get(name)
        attempt = data.draw(ATTEMPTS) if item is None else item.attempt + data.draw(strategies.integers(0, 2))
        before = copy.copy(self.log.state.items[name])
        if self.log.assign(name, node, attempt, fenced=fenced, epoch=9).event == "assigned":
            assert (before.status, before.attempt) == (WorkStatus.PENDING, attempt - 1)

    @rule(
        name=NAMES,
        verb=strategies.sampled_from(["completed", "failed", "progress"]),
        family=strategies.booleans(),
        more=strategies.fixed_dictionaries(
            {},
            optional={
                "node_id": NODES,
                "attempt": ATTEMPTS,
                "retryable": strategies.booleans(),
                "leaving": strategies.booleans(),
            },
        ),
    )
    def report(self, name: str, verb: str, family: bool, more: dict[str, Any]) -> None:
        """Anybody says anything; it counts only when it is the holder's about its current attempt."""
        subject = f"compute.node.m=2E1.{verb}" if family else f"compute.work.{verb}.v1"
        before = copy.copy(self.log.state.items[name])
        outcome = self.log.add(subject, {"work_id": name, **more})
        if outcome.event == "ignored":
            return
        speaker = "m.1" if family else more.get("node_id")
        assert before.status is WorkStatus.ASSIGNED
        assert speaker == before.holder or (speaker is None and not before.fenced)
        assert more.get("attempt", before.attempt) == before.attempt

    @rule(name=NAMES, verb=strategies.sampled_from(["completed", "failed", "progress"]))
    def holder_reports(self, name: str, verb: str) -> None:
        item = self.log.state.items[name]
        if item.holder is not None:
            body = {"work_id": name, "node_id": item.holder, "attempt": item.attempt}
            assert self.log.add(f"compute.work.{verb}.v1", body).event != "ignored"

    @rule(name=NAMES, attempt=ATTEMPTS)
    def retry(self, name: str, attempt: int) -> None:
        """A decision that came twice or too late."""
        before = copy.copy(self.log.state.items[name])
        if self.log.retry(name, attempt).event == "retried":
            assert before.attempt == attempt
            assert not before.waiting

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        self.log.add(subjects.WORK_CANCELLED, {"work_id": name})

    @rule(
        subject=strategies.sampled_from([subjects.WORK_SUBMIT, subjects.WORK_RETRIED]),
        data=strategies.binary(),
    )
    def garbage(self, subject: str, data: bytes) -> None:
        self.log.add(subject, data)

    @rule(name=NAMES)
    def finish(self, name: str) -> None:
        self._finish(self.log.state.items[name])

    @rule(epoch=strategies.integers(0, 9))
    def lead(self, epoch: int) -> None:
        self.log.add(subjects.WORK_DECIDED, {"decision": "lead", "by": "me", "epoch": epoch})

    @rule()
    def decide(self) -> None:
        """The leader decides every failure that is open."""
        for item in list(self.log.state.items.values()):
            if item.failing is not None:
                body = leases.verdict(item, item.failing, BASE, RULE)
                self.log.add(subjects.WORK_FAILED if body.get("final") else subjects.WORK_RETRIED, body)
                assert item.failing is None

    @rule(steps=strategies.integers(1, 100))
    def time_passes(self, steps: int) -> None:
        self.log.now += steps

    @rule()
    def say_it_all_again(self) -> None:
        before = picture(self.log.state)
        for record in self.log.records:
            self.log.state.apply(record)
        assert picture(self.log.state) == before

    @invariant()
    def one_end(self) -> None:
        for item in self.log.state.items.values():
            if item.status.final:
                end = (item.status, item.result_seq)
                assert self.ends.setdefault(item.seq, end) == end
            else:
                assert item.seq not in self.ends

    @invariant()
    def counts_add_up(self) -> None:
        state = self.log.state
        for status in WorkStatus:
            assert state.counts[status] == sum(item.status is status for item in state.items.values())
        pending = [item for item in state.items.values() if item.status is WorkStatus.PENDING]
        assert state.waiting.count == len(pending)
        assert Counter({number: n for number, n in enumerate(state.waiting.by_priority) if n}) == Counter(
            item.priority for item in pending
        )
        assert state.waiting.oldest() is (pending[0] if pending else None)
        held = {(item.holder, item.work_id) for item in state.items.values() if item.holder}
        assert held == {(node, work_id) for node, ids in state.held.items() for work_id in ids}
        for item in state.items.values():
            assert (item.holder is not None) == (item.status is WorkStatus.ASSIGNED)

    def teardown(self) -> None:
        """Whatever happened, each item can still be brought to its end; and replay gives the same picture."""
        if not hasattr(self, "log"):
            return
        for item in list(self.log.state.items.values()):
            self._finish(item)
        assert all(item.status.final for item in self.log.state.items.values())
        replayed = WorkState(self.log.limits)
        for record in self.log.records:
            replayed.apply(record)
        assert picture(replayed) == picture(self.log.state)

    def _finish(self, item: Item) -> None:
        if item.failing is not None:
            body = leases.verdict(item, item.failing, BASE, RULE)
            self.log.add(subjects.WORK_FAILED if body.get("final") else subjects.WORK_RETRIED, body)
        if item.waiting:
            self.log.assign(item.work_id, "n", item.attempt + 1, epoch=9, expires_at=at(0))
        if not item.status.final:
            self.log.complete(item.work_id, node_id=item.holder, attempt=item.attempt)


def picture(state: WorkState) -> tuple[Any, ...]:
    return (state.position, state.items, state.held, state.counts, state.totals, state.epoch, state.leader)


Queue.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestQueue = Queue.TestCase
