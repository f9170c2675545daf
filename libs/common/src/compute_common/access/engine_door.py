"""Connections to engines: a name is resolved once, judged, and what was judged is what is connected to.

Between two questions a name server may answer differently, so an address that was checked earlier says
nothing of the one that a connection goes to. Host header and TLS server name stay those of the URL.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from compute_common.access.engine_hosts import EngineHosts

RESOLVE_SECONDS = 5.0


class ForbiddenAddressError(OSError):
    """The host stands for no address that may be asked."""


async def addresses(reachable: EngineHosts, host: str, port: int) -> list[str]:
    """The addresses of `host` that may be asked, in the resolver's order.

    OSError when it does not resolve, ForbiddenAddressError when it may be asked at none of them.
    """
    if _is_address(host):
        found = [host] if reachable.allow_host(host) else []
    else:
        async with asyncio.timeout(RESOLVE_SECONDS):
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        every = dict.fromkeys(str(info[4][0]) for info in infos)
        found = [address for address in every if reachable.allow_resolved(host, address)]
    if not found:
        raise ForbiddenAddressError(f"'{host[:100]}' is at no address that may be asked")
    return found


async def addresses_of(reachable: EngineHosts, url: str) -> list[str]:
    """`addresses` of a URL's host."""
    parts = urlsplit(url)
    return await addresses(reachable, parts.hostname or "", parts.port or 0)


def engine_client(reachable: EngineHosts, **options: Any) -> httpx.AsyncClient:
    """A client that connects to engines alone: no proxy, no redirects. `options` are httpx's own."""
    limits = options.pop("limits", None) or httpx.Limits()
    transport = _Transport(reachable, limits)
    return httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, **options)


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self, reachable: EngineHosts, limits: httpx.Limits) -> None:
        super().__init__(trust_env=False, limits=limits)
        self._pool._network_backend = _Door(reachable)  # httpx has no parameter for httpcore's


class _Door(httpcore.AsyncNetworkBackend):
    """httpcore's own way of connecting, behind the judgement."""

    def __init__(self, reachable: EngineHosts) -> None:
        self._reachable = reachable
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                found = await addresses(self._reachable, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        each = None if timeout is None else timeout / len(found)
        return await self._first(found, port, each, local_address, socket_options)

    async def _first(
        self,
        found: Sequence[str],
        port: int,
        seconds: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        """The first of the addresses that answers; the last one's error when none does."""
        last: Exception = httpcore.ConnectError("no address")
        for address in found:
            try:
                return await self._inner.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("engines have no sockets of files")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
