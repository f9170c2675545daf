"""A snapshot is the fold at one moment, whatever happens while it is made; and nothing else reads as one."""

import zlib
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from compute_common import subjects
from tests.unit.work_marshaling.records import Log
from work_marshaling import snapshot
from work_marshaling.kept import Limits
from work_marshaling.snapshot import Capture, UnreadableError, restored
from work_marshaling.state import WorkState


def picture(state: WorkState) -> tuple[Any, ...]:
    blacklist = [(*key, str(record)) for *key, record in state.blacklist.records()]
    kept = (state.items, state.held, state.counts, state.totals, state.ignored, state.leadership)
    return (
        state.position,
        list(state.items),
        *kept,
        state.moved,
        blacklist,
        list(state._finals),
        state._keys,
    )


def again(state: WorkState) -> WorkState:
    return read(b"".join(Capture(state).parts()))


def read(data: bytes) -> WorkState:
    *_, state = restored(data, Limits())
    return state


def step(log: Log, number: int) -> None:
    """One of many things that happen to a queue, by its number."""
    name = f"i{number % 7}"
    item = log.state.items.get(name)
    kind = number // 7 % 8
    if item is None or kind == 0:
        needs = {"labels": {"site": str(number % 5)}}
        log.submit(name, work_type=f"t{number % 11}", requirements=needs, idempotency_key=f"k{name}")
    elif kind in (1, 2):
        log.decide(assign=[log.assignment(name, f"n{number % 3}", fenced=True, session="s")])
    elif kind == 3:
        log.complete(name, node_id=item.holder, attempt=item.attempt)
    elif kind == 4:
        log.fail(name, node_id=item.holder, attempt=item.attempt)
    elif kind == 5:
        body = {"work_id": name, "attempt": item.attempt, "not_before": "2030-01-01T00:00:00Z"}
        log.decide(retry=[{**body, "cause": "error"}])
    elif kind == 6:
        log.add(subjects.WORK_CANCELLED, {"work_id": name})
    else:
        log.lead(f"leader-{number}")
    log.now += 1


@given(before=some.lists(some.integers(0, 600), max_size=60), meanwhile=some.lists(some.integers(0, 600)))
def test_it_is_the_fold_of_the_moment_it_was_begun(before: list[int], meanwhile: list[int]) -> None:
    log = Log()
    log.lead("first")
    for number in before:
        step(log, number)
    then = picture(again(log.state))
    assert then == picture(log.state)
    rows, snapshot.ROWS = snapshot.ROWS, 2
    try:
        capture, parts, todo = Capture(log.state), [], iter(meanwhile)
        for part in capture.parts():
            parts.append(part)
            for number in islice(todo, 2):
                step(log, number)
        capture.end()
    finally:
        snapshot.ROWS = rows
    state = read(b"".join(parts))
    assert picture(state) == then
    for record in log.records:  # and the log goes on from it
        state.apply(record)
    assert picture(state) == picture(log.state)
    assert log.state.before_change is None


def test_an_item_keeps_everything() -> None:
    log = Log()
    log.lead("me")
    log.submit(
        "a", payload={"n": 1}, not_before="2023-12-01T00:00:00Z", queue_timeout_seconds=5, metadata={"x": 1}
    )
    log.decide(assign=[log.assignment("a", "n", fenced=True, session="s", own_subject=True)])
    log.add(subjects.WORK_PROGRESS, {"work_id": "a", "node_id": "n", "attempt": 1, "progress": 0.5})
    log.fail("a", node_id="n", attempt=1)
    item = log.state.items["a"]
    copy = again(log.state).items["a"]
    assert copy == item
    assert (copy.failing, copy.fingerprint, copy.history[0]) == (
        item.failing,
        item.fingerprint,
        item.history[0],
    )
    assert type(copy.history[0]) is type(item.history[0])
    assert copy.demand is not item.demand


@pytest.mark.parametrize("spoil", ["cut", "flip", "empty", "format", "garbage", "lost-part"])
def test_what_is_no_snapshot_does_not_read(spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "ROWS", 1)
    log = Log()
    for name in "abc":
        log.submit(name)
    parts = list(Capture(log.state).parts())
    data = b"".join(parts)
    if spoil == "format":
        monkeypatch.setattr(snapshot, "FORMAT", 99)
    spoilt = {
        "cut": data[:-3],
        "flip": data[:20] + bytes([data[20] ^ 255]) + data[21:],
        "empty": b"",
        "garbage": zlib.compress(b"x" * 100),
        "lost-part": b"".join(parts[:-1]),
    }.get(spoil, data)
    with pytest.raises(UnreadableError):
        list(restored(spoilt, Limits()))
