"""A name that changes what it stands for leads nowhere it may not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from compute_common.access.engine_door import ForbiddenAddressError, addresses, addresses_of, engine_client
from compute_common.access.engine_hosts import PRIVATE, EngineHosts

DEFAULT = EngineHosts.parse(PRIVATE)
METADATA, PUBLIC = "169.254.169.254", "203.0.113.9"
Resolver = Callable[..., list[list[str]]]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Names stand for what is given, answer after answer; the last one stays. Returned: what is left."""
    real = socket.getaddrinfo

    def play(*answers: list[str]) -> list[list[str]]:
        left = list(answers)

        def answer(host: Any, port: Any, *more: Any, **options: Any) -> Any:
            if host is None or str(host)[:1].isdigit() or ":" in str(host):
                return real(host, port, *more, **options)
            found = left.pop(0) if len(left) > 1 else left[0]
            return [
                (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
                for each in found
            ]

        monkeypatch.setattr(socket, "getaddrinfo", answer)
        return left

    return play


@asynccontextmanager
async def engine(host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[str]]]:
    """A server that keeps the heads of what it is asked."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


@pytest.mark.parametrize(
    ("name", "found", "kept"),
    [
        ("box", ["10.0.0.5"], ["10.0.0.5"]),
        ("box", ["127.0.0.1"], ["127.0.0.1"]),
        ("box", [METADATA], []),
        ("box", [PUBLIC], []),
        ("box", [PUBLIC, "10.0.0.5", METADATA], ["10.0.0.5"]),
        ("box", ["::ffff:169.254.169.254"], []),
        ("box", ["fe80::1%eth0"], []),
        ("localhost", [METADATA], []),
        ("engine.example", [PUBLIC], [PUBLIC]),
        ("engine.example", [METADATA], []),
        ("engine.example", ["100.100.100.200", "fd00:ec2::254"], []),
        ("other.example", ["10.0.0.5"], []),
    ],
)
async def test_a_name_is_asked_only_where_it_may_be(
    resolver: Resolver, name: str, found: list[str], kept: list[str]
) -> None:
    resolver(found)
    reachable = DEFAULT.also("engine.example")
    if kept:
        assert await addresses(reachable, name, 80) == kept
    else:
        with pytest.raises(ForbiddenAddressError):
            await addresses(reachable, name, 80)


async def test_an_address_needs_no_resolver(resolver: Resolver) -> None:
    resolver([METADATA])
    assert await addresses_of(DEFAULT, "http://10.0.0.5:8000/v1") == ["10.0.0.5"]
    with pytest.raises(ForbiddenAddressError):
        await addresses_of(DEFAULT, f"http://{METADATA}/v1")


async def test_what_was_judged_is_what_is_connected_to(resolver: Resolver) -> None:
    """The second answer would lead elsewhere: nobody asks for it."""
    left = resolver(["127.0.0.1"], ["127.0.0.2"], [METADATA])
    async with engine() as (port, heads), engine("127.0.0.2") as (_, astray):
        async with engine_client(DEFAULT, timeout=2) as client:
            assert (await client.get(f"http://box:{port}/v1")).text == "ok"
        assert f"host: box:{port}" in heads[0]
    assert len(left) == 2
    assert astray == []


async def test_a_name_that_turns_is_refused_at_its_next_connection(resolver: Resolver) -> None:
    resolver(["127.0.0.1"], [METADATA])
    async with engine() as (port, heads), engine_client(DEFAULT, timeout=2) as client:
        assert (await client.get(f"http://box:{port}/v1")).text == "ok"
        with pytest.raises(httpx.ConnectError, match="no address that may be asked"):
            await client.get(f"http://box:{port}/v1")
    assert len(heads) == 1


async def test_the_next_address_is_tried(resolver: Resolver) -> None:
    resolver(["127.0.0.3", "127.0.0.1"])
    async with engine() as (port, _), engine_client(DEFAULT, timeout=2) as client:
        assert (await client.get(f"http://box:{port}/v1")).text == "ok"
        gone = port
    async with engine_client(DEFAULT, timeout=2) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://box:{gone}/v1")


async def test_a_name_that_is_none_is_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with engine_client(DEFAULT, timeout=2) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://box:1/v1")
