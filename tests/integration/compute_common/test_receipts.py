"""Acknowledged publishing: many at once, each its own answer; silence and absence are errors."""

import asyncio
import time

import nats.errors
import pytest
from nats.js.api import StreamConfig

from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.receipts import Receipts
from tests.support.nats import NatsServer
from tests.support.waiting import until


async def test_each_gets_its_own_sequence_and_a_refusal_is_told(bus: Bus) -> None:
    await bus.jetstream().add_stream(StreamConfig(name="S", subjects=["s"]))
    receipts = Receipts(bus, 5)
    answers = await asyncio.gather(*(receipts.publish("s", b"%d" % number) for number in range(500)))
    assert [answer["seq"] for answer in answers] == list(range(1, 501))
    refused = await receipts.publish("s", b"x", {"Nats-Expected-Last-Subject-Sequence": "7"})
    assert refused["error"]["err_code"] in (10071, 10164)


async def test_no_stream_no_answer_no_nats(bus: Bus, nats_server: NatsServer) -> None:
    with pytest.raises(nats.errors.NoRespondersError):
        await Receipts(bus, 5).publish("nobody", b"x")
    heard = await bus.client.subscribe("mute")
    started = time.monotonic()
    receipts = Receipts(bus, 0.2)
    answers = await asyncio.gather(
        *(receipts.publish("mute", b"x") for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [nats.errors.TimeoutError] * 3
    assert 0.2 <= time.monotonic() - started < 3
    await heard.unsubscribe()
    nats_server.stop(kill=True)
    await until(lambda: not bus.connected)
    with pytest.raises(Problem, match="NATS is not connected"):
        await receipts.publish("mute", b"x")


async def test_it_goes_on_after_nats_was_away(bus: Bus, nats_server: NatsServer) -> None:
    await bus.jetstream().add_stream(StreamConfig(name="S", subjects=["s"]))
    receipts = Receipts(bus, 5)
    assert (await receipts.publish("s", b"1"))["seq"] == 1
    nats_server.stop()
    await until(lambda: not bus.connected)
    nats_server.start()
    await until(lambda: bus.connected)
    await until(lambda: stored(bus))
    assert (await receipts.publish("s", b"2"))["seq"] == 2


async def stored(bus: Bus) -> bool:
    """Whether the stream is up again."""
    try:
        return (await bus.jetstream(1).stream_info("S")).state.messages == 1
    except (nats.errors.Error, Problem):
        return False
