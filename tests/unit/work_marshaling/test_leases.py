"""When a holder has lost an item, and what follows."""

from datetime import datetime

import pytest

from compute_common.enums import WorkStatus
from work_marshaling import leases
from work_marshaling.blacklist import Blacklist, BlacklistRule
from work_marshaling.fleet import NodeView
from work_marshaling.items import Demand, Failure, Item

LEASE = leases.LeaseRule(silence_seconds=20)
RETRY = leases.RetryRule(retries=3, delay_seconds=5)


def held(**values: object) -> Item:
    item = Item("a", 1, 0.0, Demand("test"), 5, 300.0, status=WorkStatus.ASSIGNED, holder="n", attempt=1)
    item.assigned_at, item.expires_at = 100.0, 400.0
    for name, value in values.items():
        setattr(item, name, value)
    return item


@pytest.mark.parametrize(
    ("item", "node", "gone_for", "now", "cause"),
    [
        (held(), NodeView("n"), 0, 399, None),
        (held(), NodeView("n"), 0, 400, "timeout"),
        (held(heard_at=150.0), NodeView("n"), 0, 169, None),
        (held(heard_at=150.0), NodeView("n"), 0, 170, "silent"),
        (held(), NodeView("n", online=False), 0, 110, "node-offline"),
        (held(), None, 9, 110, None),
        (held(), None, 10, 110, "node-offline"),
        (held(session="one"), NodeView("n", session="two"), 0, 110, "node-restarted"),
        (held(session="one"), NodeView("n", session="one"), 0, 110, None),
        (held(), NodeView("n"), 5, 110, "node-left"),
    ],
)
def test_a_holder_loses_an_item(
    item: Item, node: NodeView | None, gone_for: float, now: float, cause: str | None
) -> None:
    failure = leases.lost(item, node, gone_for, now, LEASE)
    assert (failure.cause if failure else None) == cause


def test_the_delay_doubles_with_full_jitter_and_is_always_the_same() -> None:
    for retries in range(8):
        delays = [leases.delay_seconds(held(work_id=f"w-{n}", retries=retries), RETRY) for n in range(200)]
        limit = min(300.0, 5.0 * 2**retries)
        assert all(0 <= delay < limit for delay in delays)
        assert max(delays) > 0.9 * limit
        assert min(delays) < 0.1 * limit
    assert leases.delay_seconds(held(), RETRY) == leases.delay_seconds(held(), RETRY)


def test_after_the_last_retry_it_has_failed() -> None:
    failure = Failure("error", "broken", "n")
    again = leases.verdict(held(retries=2), failure, 1000.0, RETRY)
    due = again["not_before"]
    assert isinstance(due, datetime)
    assert 1000 <= due.timestamp() < 1020
    last = leases.verdict(held(retries=3), failure, 1000.0, RETRY)
    assert (last["final"], last["error"]) == (True, "broken")
    assert leases.verdict(held(retries=3, max_retries=4), failure, 1000.0, RETRY).get("final") is None
    hopeless = Failure("payload-too-large", "big", None, retryable=False)
    assert leases.verdict(held(), hopeless, 1000.0, RETRY)["final"] is True


def test_work_of_a_lost_node_goes_elsewhere_at_once_and_hand_backs_end_too() -> None:
    lost = leases.verdict(held(), Failure("node-offline", "gone", "n"), 1000.0, RETRY)
    due = lost["not_before"]
    assert isinstance(due, datetime)
    assert due.timestamp() == 1000.0
    back = Failure("leaving", "node is leaving", "n", counted=False)
    assert leases.verdict(held(retries=3), back, 1000.0, RETRY)["counted"] is False
    assert leases.verdict(held(attempt=100), back, 1000.0, RETRY)["final"] is True


def test_three_failures_within_the_window_set_a_node_aside_for_longer_each_time() -> None:
    blacklist = Blacklist(BlacklistRule(failures=3, window_seconds=100, cool_down_seconds=10))
    for at in (0.0, 60.0, 120.0):
        blacklist.failed("n", "test", at, "broken")
    assert not blacklist.blocks("n", "test", 120)
    blacklist.failed("n", "test", 130, "broken")
    assert blacklist.blocks("n", "test", 139)
    assert not blacklist.blocks("n", "other", 139)
    assert not blacklist.blocks("n", "test", 140)
    blacklist.failed("n", "test", 141, "broken")
    assert blacklist.blocks("n", "test", 160)
    assert [record.until for _, _, record in blacklist.cooling(160)] == [161]
    blacklist.succeeded("n", "test")
    assert not blacklist.blocks("n", "test", 160)
    assert blacklist.forgive("n") is False


def test_an_item_that_fails_on_many_nodes_is_to_blame_itself() -> None:
    item = held(failed_on=("a", "b"))
    again = leases.verdict(item, Failure("node-offline", "gone", "n"), 0.0, RETRY)
    assert "final" not in again  # nothing the node did
    poison = leases.verdict(item, Failure("timeout", "too slow", "n"), 0.0, RETRY)
    assert (poison["cause"], poison["final"]) == ("poison", True)
    assert poison["error"] == "set aside: it failed on a, b, n; the last time: too slow"
    same_node = leases.verdict(held(failed_on=("a", "n")), Failure("error", "broke", "n"), 0.0, RETRY)
    assert "final" not in same_node


def test_a_waiting_item_has_patience_from_when_it_began_to_wait() -> None:
    item = Item("a", 1, 100.0, Demand("test"), 5, 300.0, updated=100.0, queue_timeout=10.0)
    assert leases.out_of_patience(item, 109.9) is None
    failure = leases.out_of_patience(item, 110.0)
    assert failure is not None
    assert (failure.cause, failure.retryable) == ("queue-timeout", False)
    item.not_before = 150.0
    assert leases.out_of_patience(item, 159.9) is None
    item.queue_timeout = None
    assert leases.out_of_patience(item, 1e9) is None


def test_a_pardoned_node_is_used_again_where_little_is_left_against_it() -> None:
    blacklist = Blacklist(BlacklistRule(failures=2, window_seconds=100, cool_down_seconds=10))
    blacklist.failed("n", "test", 1, "broken")
    blacklist.pardon("n", "test")
    assert blacklist.records() == []
    for at in (2.0, 3.0, 4.0):
        blacklist.failed("n", "test", at, "broken")
    blacklist.pardon("n", "test")
    assert blacklist.blocks("n", "test", 5)
    blacklist.pardon("n", "test")
    assert not blacklist.blocks("n", "test", 5)
    blacklist.pardon("nobody", "test")
