"""A lease is renewed while an item runs, whatever one renewal does, and not after."""

import asyncio

import pytest

from compute_node import renewal
from compute_node.renewal import Renewal
from tests.support.waiting import until


async def test_it_is_renewed_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.01)
    times = 0

    async def renew() -> None:
        nonlocal times
        times += 1
        if times == 2:
            raise RuntimeError("NATS is away")

    lease = Renewal(renew)
    await until(lambda: times >= 4)
    lease.stop()
    after = times
    await asyncio.sleep(0.05)
    assert times == after


async def test_a_quick_item_is_never_renewed() -> None:
    lease = Renewal(lambda: pytest.fail("renewed"))
    lease.stop()
    assert all("_repeat" not in repr(task) for task in asyncio.all_tasks())
