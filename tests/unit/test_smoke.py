from tests.support.nats import NatsServer

from compute_common.bus import Bus, Message


async def test_bus_request(bus: Bus, nats_server: NatsServer) -> None:
    async def echo(message: Message) -> Message:
        return {"got": message}

    await bus.serve("t.x", echo)
    assert await bus.request("t.x", {"a": 1}) == {"got": {"a": 1}}
    info = await bus.client.request("$SYS.REQ.SERVER.PING.VARZ", b"", timeout=2)
    assert b"compute-embedded" in info.data
    await bus.jetstream().account_info()
