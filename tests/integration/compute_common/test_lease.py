"""The lease on a real server: one holder, an heir, and a name that two programs share."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from compute_common.bus import Bus
from compute_common.bus_auth import NatsSettings
from compute_common.lease import Lease, LeaseTerms
from tests.support.nats import NatsServer
from tests.support.waiting import until

TERMS = LeaseTerms("TEST_LEASE", max_age_seconds=1.2, renew_seconds=0.4)


@pytest.fixture
async def other_bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    own = Bus(NatsSettings(NATS_URL=nats_server.url), "other")
    own.start()
    assert await own.wait_connected(5)
    yield own
    await own.stop()


async def epoch_of(lease: Lease) -> int:
    epoch = lease.epoch
    assert epoch is not None
    return epoch


async def test_one_holds_and_keeps_it_by_renewing(bus: Bus, other_bus: Bus) -> None:
    first, second = Lease(bus, TERMS, "a"), Lease(other_bus, TERMS, "b")
    assert Lease(bus, TERMS, "c").last_answer is None
    assert await first.step()
    epoch = first.epoch
    for _beat in range(5):
        assert (await first.step(), await second.step()) == (True, False)
        await asyncio.sleep(TERMS.renew_seconds)
    assert (first.epoch, second.epoch) == (epoch, None)
    assert (first.last_answer, second.last_answer) == (True, False)


async def test_a_silent_holder_is_inherited_with_a_greater_epoch(bus: Bus, other_bus: Bus) -> None:
    first, second = Lease(bus, TERMS, "a"), Lease(other_bus, TERMS, "b")
    assert await first.step()
    before = await epoch_of(first)
    assert not await second.step()
    await until(second.step, 4 * TERMS.max_age_seconds)
    assert not first.held, "it stopped believing before the key was gone"
    assert await epoch_of(second) > before
    assert not await first.step()
    assert await second.step()


async def test_a_restart_takes_its_own_key_back_at_once(bus: Bus, other_bus: Bus) -> None:
    earlier = Lease(bus, TERMS, "a")
    assert await earlier.step()
    again = Lease(other_bus, TERMS, "a")
    assert await again.step(), "without waiting for the key's age"
    assert await epoch_of(again) > await epoch_of(earlier)


async def test_two_under_one_name_do_not_take_turns(bus: Bus, other_bus: Bus) -> None:
    first, second = Lease(bus, TERMS, "a"), Lease(other_bus, TERMS, "a")
    assert (await first.step(), await second.step()) == (True, True)
    epoch = second.epoch
    for _turn in range(5):
        assert (await first.step(), await second.step()) == (False, True)
    assert second.epoch == epoch


async def test_a_starting_one_that_found_another_name_waits_like_everybody(bus: Bus, other_bus: Bus) -> None:
    held, late = Lease(bus, TERMS, "a"), Lease(other_bus, TERMS, "b")
    assert await held.step()
    assert not await late.step()
    await held.release()
    successor = Lease(bus, TERMS, "b")
    assert await successor.step()
    assert not await late.step(), "it started long ago: the name alone gives no right any more"


async def test_a_renewal_whose_acknowledgement_was_lost_costs_nothing(bus: Bus) -> None:
    lease = Lease(bus, TERMS, "a")
    assert await lease.step()
    epoch = lease.epoch
    bucket = await bus.jetstream().key_value(TERMS.bucket)
    written = await bucket.get(TERMS.key)
    await bucket.put(TERMS.key, written.value or b"")
    assert await lease.step()
    assert lease.epoch == epoch


async def test_released_another_takes_over_at_once(bus: Bus, other_bus: Bus) -> None:
    first, second = Lease(bus, TERMS, "a"), Lease(other_bus, TERMS, "b")
    await first.step()
    before = await epoch_of(first)
    await second.step()
    await first.release()
    assert not first.held
    assert await second.step()
    assert await epoch_of(second) > before


async def test_without_nats_it_runs_out_and_comes_back(nats_server: NatsServer, bus: Bus) -> None:
    lease = Lease(bus, TERMS, "a")
    assert await lease.step()
    nats_server.stop(kill=True)
    await until(lambda: not bus.connected)
    await until(lambda: not lease.held, TERMS.max_age_seconds)
    assert not await lease.step()
    assert (lease.epoch, lease.last_answer) == (None, True)
    nats_server.start()
    await until(lambda: bus.connected)
    await until(lease.step)


async def test_what_nobody_of_us_wrote_is_waited_out(bus: Bus) -> None:
    first = Lease(bus, TERMS, "a")
    await first.step()
    await first.release()
    bucket = await bus.jetstream().key_value(TERMS.bucket)
    await bucket.put(TERMS.key, b"\xff not ours")
    assert not await first.step()
    await until(first.step, 4 * TERMS.max_age_seconds)


async def test_a_bucket_that_forgets_sooner_is_believed(bus: Bus) -> None:
    assert await Lease(bus, TERMS, "a").step()
    now = 0.0
    longer = LeaseTerms(TERMS.bucket, max_age_seconds=60, renew_seconds=20)
    lease = Lease(bus, longer, "a", clock=lambda: now)
    assert await lease.step()
    now = 0.9 * TERMS.max_age_seconds
    assert not lease.held
