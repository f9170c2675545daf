"""Stored truth under live truth: removals by a clock that is ahead, and restoring in slices."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from node_registry.records import Moment
from node_registry.store import SLICE, Loaded, Store
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document


class Kept(Store):
    """A store that holds what it was given."""

    label = "test"

    def __init__(self, table: NodeTable, held: Loaded, now: Moment) -> None:
        super().__init__(table, lambda: now, CollectorRegistry())
        self.held = held

    async def reload(self) -> list[str]:
        return await self._restore(self.held)

    async def flush(self) -> None:
        raise AssertionError("nothing is written here")


def removed_at(moment: Moment, now: Moment) -> Moment:
    """As it is read: never later than now by this clock, its stamp as it was written."""
    return replace(moment, mono=min(moment.mono, now.mono))


@pytest.mark.parametrize(
    ("seen", "stamped", "is_kept"),
    [(10, 9, True), (10, 11, False), (10, 600, True)],
    ids=["heard after it", "removed after it", "stamped by a clock ten minutes ahead"],
)
async def test_a_removal_this_replica_missed(seen: float, stamped: float, is_kept: bool) -> None:
    table, now = NodeTable(), at(12)
    table.announce(document(), at(0))
    table.heartbeat(beat(), at(seen))
    store = Kept(table, Loaded(removed={"n1": removed_at(at(stamped), now)}), now)
    await store.reload()
    assert ("n1" in table) is is_kept


async def test_whoever_is_silent_goes_whatever_the_clock_says() -> None:
    table, now = NodeTable(), at(700)
    table.announce(document(), at(0))
    table.tick(at(650).mono)
    await Kept(table, Loaded(removed={"n1": removed_at(at(1300), now)}), now).reload()
    assert "n1" not in table


async def test_others_have_their_turn_while_thousands_are_restored() -> None:
    stored = NodeTable()
    for number in range(20 * SLICE):
        stored.announce(document(f"n{number}"), at(0))
    table = NodeTable()
    store = Kept(table, Loaded(records=[row.record for row in stored.rows()]), at(1))
    seen: list[int] = []

    async def look() -> None:
        while len(table) < len(stored):
            seen.append(len(table))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    last = f"n{20 * SLICE - 1}"
    await asyncio.sleep(0)
    restoring = asyncio.create_task(store.reload())
    await asyncio.sleep(0)
    table.announce(document(last, hostname="live"), at(2))
    added = await restoring
    await looking
    assert len(set(seen)) >= 20
    assert len(added) == len(stored) - 1
    record = table.record(last)
    assert record is not None
    assert record.document.hostname == "live", "what was heard meanwhile is fresher"
