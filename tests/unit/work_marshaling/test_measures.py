"""What a scrape says, and that it costs the same however many items there are."""

import sys
from random import Random
from types import FrameType
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from compute_common.enums import WorkStatus
from tests.unit.work_marshaling.records import BASE, Log
from work_marshaling.items import Demand, Item
from work_marshaling.kept import Limits
from work_marshaling.service import WorkMarshaling
from work_marshaling.settings import Settings
from work_marshaling.state import WorkState
from work_marshaling.waiting import SLACK, Waiting

DEMAND = Demand("test")
PARTS = ("work_marshaling", "prometheus_client")


def service_with(state: WorkState) -> WorkMarshaling:
    service = WorkMarshaling(Settings(nats_url=SecretStr("nats://127.0.0.1:1")))
    service.state = state
    return service


def item(seq: int, priority: int = 5) -> Item:
    return Item(f"w-{seq}", seq, BASE + seq, DEMAND, priority, 300.0)


def queue_of(count: int) -> WorkState:
    """So many pending items, one in ten of which came back after a failed attempt."""
    state = WorkState(Limits())
    for seq in range(1, count + 1):
        state.adopt(item(seq, seq % 10))
    for waiting in list(state.items.values())[::10]:
        state.waiting.leave(waiting)
        state.waiting.enter(waiting)
    return state


def lines_run(work: Any) -> int:
    """Lines of the service and of its metrics library that `work` executes."""
    count = 0

    def look(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if not any(part in frame.f_code.co_filename for part in PARTS):
            return None
        count += event == "line"
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def scraped(service: WorkMarshaling) -> dict[str, float]:
    text = generate_latest(service.metrics.registry).decode()
    return {
        sample.name + "".join(f",{key}={word}" for key, word in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_runs_as_many_lines_at_100_000_items_as_at_100() -> None:
    services = [service_with(queue_of(count)) for count in (100, 100_000)]
    few, many = (
        lines_run(lambda service=service: generate_latest(service.metrics.registry)) for service in services
    )
    assert few > 100
    assert many == few
    assert scraped(services[1])["compute_work_pending"] == 100_000


def test_what_a_scrape_says() -> None:
    log = Log()
    for name, priority in (("a", 0), ("b", 5), ("c", 5), ("d", 9)):
        log.submit(name, priority=priority)
        log.now += 10
    log.lead("me")
    log.decide(assign=[log.assignment("a", "n"), log.assignment("b", "n")])
    log.add("compute.work.completed.v1", {"work_id": "a", "node_id": "n", "attempt": 1})
    log.add("compute.work.completed.v1", {"work_id": "x"})
    service = service_with(log.state)
    for record in log.records:
        service.measures.observe(log.state.apply(record), record)
    found = scraped(service)
    assert found["compute_work_pending"] == 2
    assert found["compute_work_active"] == 1
    assert found["compute_work_items,status=completed"] == 1
    assert [found[f"compute_work_pending_by_priority,priority={number}"] for number in (0, 5, 9)] == [0, 1, 1]
    assert found["compute_work_ignored_total,reason=unknown-item"] == 1
    assert found["compute_work_oldest_pending_seconds"] > 0
    assert found["compute_work_wait_seconds_bucket,le=+Inf"] == 0  # what is replayed is not timed


def test_what_a_node_with_an_account_says_is_counted_whether_it_counts_or_not() -> None:
    log = Log()
    for _ in range(3):
        log.add("compute.node.a=2Eb.completed", {"work_id": "x"})
    log.add("compute.node.a=2Eb.assigned", {})  # of the leader
    log.add("compute.work.completed.v1", {"work_id": "x", "node_id": "a.b"})
    service = service_with(log.state)
    for record in log.records:
        service.measures.observe(log.state.apply(record), record)
    assert scraped(service)["compute_work_reports_total,node_id=a.b"] == 3


def test_spans_are_counted_into_buckets() -> None:
    log = Log()
    service = service_with(log.state)
    log.now = 1_000_000_000
    log.submit("a")
    log.lead("me")
    log.now += 0.25
    outcome = log.decide(assign=[log.assignment("a", "n")])
    for part in outcome.each():
        service.measures.observe(part, log.records[-1])
    found = scraped(service)
    assert found["compute_work_events_total,event=assigned"] == 1
    edges = {edge: found[f"compute_work_wait_seconds_bucket,le={edge}"] for edge in ("0.1", "0.25", "+Inf")}
    assert edges == {"0.1": 0, "0.25": 1, "+Inf": 1}
    assert found["compute_work_wait_seconds_count"] == 1
    assert found["compute_work_wait_seconds_sum"] == 0.25


def test_the_oldest_is_found_whoever_comes_and_goes() -> None:
    random, waiting, pending, others = Random(7), Waiting(), dict[int, Item](), list[Item]()  # noqa: S311
    for seq in range(1, 20_000):
        draw = random.random()
        if draw < 0.5 or not pending:
            pending[seq] = item(seq)
            waiting.enter(pending[seq])
        elif draw < 0.9 or not others:
            gone = pending.pop(random.choice(list(pending)[:50]))
            gone.status = WorkStatus.ASSIGNED
            waiting.leave(gone)
            others.append(gone)
        else:
            back = others.pop(random.randrange(len(others)))
            back.status = WorkStatus.PENDING
            pending[back.seq] = back
            waiting.enter(back)
        if seq % 10 == 0:
            assert waiting.oldest() is pending[min(pending)]
    assert waiting.count == len(pending) == waiting.by_priority[5]


def test_an_item_nobody_takes_does_not_keep_those_behind_it() -> None:
    waiting = Waiting()
    waiting.enter(item(1))
    for seq in range(2, 5 * SLACK):
        passing = item(seq)
        waiting.enter(passing)
        passing.status = WorkStatus.ASSIGNED
        waiting.leave(passing)
    assert len(waiting._since_submission) <= SLACK + 3
