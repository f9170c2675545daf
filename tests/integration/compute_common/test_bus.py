"""The bus on a real server: requests, refusals, restarts."""

import pytest
from structlog.testing import capture_logs

from compute_common.bus import Bus, Message
from compute_common.bus_auth import NatsSettings
from compute_common.jetstream import WORK_STREAM, ensure_stream, work_stream
from compute_common.problems import Problem, conflict, unavailable
from compute_common.schemas.gpu import ReserveRequest
from compute_common.subjects import WORK_SUBMIT
from tests.support.nats import NatsServer
from tests.support.waiting import until


async def test_request_and_reply_with_echoed_ids(bus: Bus) -> None:
    async def add(message: Message) -> Message:
        return {"sum": message["a"] + message["b"]}

    await bus.serve("test.add", add, queue="adders")
    answer = await bus.request("test.add", {"a": 1, "b": 2, "request_id": "r1"})
    assert answer == {"sum": 3, "request_id": "r1"}


async def test_a_problem_crosses_the_wire(bus: Bus) -> None:
    async def refuse(_message: Message) -> Message:
        raise conflict("no-room", "ask for less", shortfall_mb=512)

    await bus.serve("test.refuse", refuse)
    with pytest.raises(Problem, match="ask for less") as caught:
        await bus.request("test.refuse", {})
    assert (caught.value.status, caught.value.cause) == (409, "no-room")
    assert caught.value.extra["shortfall_mb"] == 512


async def test_nobody_there_is_said(bus: Bus) -> None:
    with pytest.raises(Problem, match="nobody serves"):
        await bus.request("test.nobody", {})


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"[]", b"null", b'{"required_mb": -1}', b"[" * 50_000])
async def test_bad_messages_never_end_a_subscription(nats_server: NatsServer, data: bytes) -> None:
    seen: list[tuple[str, str]] = []
    bus = Bus(
        NatsSettings.model_validate({"NATS_URL": nats_server.url}),
        "test",
        lambda subject, outcome: seen.append((subject, outcome)),
    )
    bus.start()
    assert await bus.wait_connected(5)

    async def handle(message: Message) -> Message:
        return {"mb": ReserveRequest.model_validate(message).required_mb}

    await bus.serve("test.parse", handle)
    refused = await bus.client.request("test.parse", data, timeout=5)
    assert b"urn:compute:error:" in refused.data
    assert await bus.request("test.parse", {"gpu_indices": [], "required_mb": 7}) == {"mb": 7}
    assert seen == [("test.parse", "rejected"), ("test.parse", "ok")]
    await bus.stop()


async def test_a_bus_started_before_the_server_heals(nats_server: NatsServer) -> None:
    nats_server.stop()
    bus = Bus(NatsSettings.model_validate({"NATS_URL": nats_server.url}), "early")
    got: list[Message] = []

    async def keep(message: Message) -> None:
        got.append(message)

    bus.start()
    await bus.subscribe("test.late", keep)
    assert not await bus.wait_connected(0.1)
    with pytest.raises(Problem, match="not connected"):
        await bus.publish("test.late", {})
    nats_server.start()
    assert await bus.wait_connected(10)
    await bus.publish("test.late", {"n": 1})
    await until(lambda: got == [{"n": 1}])
    await bus.stop()


async def test_a_restarted_server_finds_subscriptions_and_hooks_again(
    bus: Bus, nats_server: NatsServer
) -> None:
    connects: list[int] = []

    async def hook() -> None:
        connects.append(1)

    async def pong(_message: Message) -> Message:
        return {"ok": True}

    bus.on_connect(hook)
    await bus.serve("test.ping", pong)
    await until(lambda: len(connects) == 1)
    nats_server.stop(kill=True)
    nats_server.start()
    await until(lambda: len(connects) == 2)
    assert await bus.request("test.ping", {}) == {"ok": True}


async def test_plain_clients_reach_server_info_and_a_receipt(bus: Bus) -> None:
    """The default account: no login, JetStream, `nats server info`; a request to submit gets a PubAck."""
    info = await bus.client.request("$SYS.REQ.SERVER.PING.VARZ", b"", timeout=5)
    assert b"server_name" in info.data
    await ensure_stream(bus.jetstream(), work_stream())
    await ensure_stream(bus.jetstream(), work_stream())
    receipt = await bus.request(WORK_SUBMIT, {"work_type": "test"})
    assert (receipt["stream"], receipt["seq"]) == (WORK_STREAM, 1)


async def test_a_refusal_in_a_connect_hook_is_one_line_without_a_traceback(bus: Bus) -> None:
    async def refuse() -> None:
        raise unavailable("storage", "not now")

    with capture_logs() as told:
        bus.on_connect(refuse)
        await until(lambda: bool(told))
    (line,) = told
    assert (line["log_level"], line["detail"], "exc_info" in line) == ("warning", "not now", False)
