"""Where the hosts of a run are: network namespaces where they can be made, else loopback and proxies."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

from compute_cli.suite import SERVICES
from tests.faults.proxy import Proxy
from tests.support.network import NoNamespaceError, Star, star
from tests.support.ports import free_ports

ENGINE_PORTS_EACH = 4


class Place(Protocol):
    """One host: how programs are started there and how its network is broken."""

    @property
    def address(self) -> str: ...
    def inside(self, argv: Sequence[str]) -> list[str]: ...
    async def environment(self, nats_urls: Sequence[str]) -> dict[str, str]: ...
    async def cut(self) -> None: ...
    async def mend(self) -> None: ...


class Namespace:
    """A namespace with a cable: cut, it is silent."""

    def __init__(self, net: Star, number: int) -> None:
        self._net, self._number = net, number
        self._host = net.hosts[number]
        self.address = self._host.address

    def inside(self, argv: Sequence[str]) -> list[str]:
        return self._host.inside(argv)

    async def environment(self, nats_urls: Sequence[str]) -> dict[str, str]:
        return {"NATS_URL": ",".join(nats_urls), "COMPUTE_BIND": self.address, "COMPUTE_ALLOW_NO_KEY": "1"}

    async def cut(self) -> None:
        await asyncio.to_thread(self._net.cable, self._number, "down")

    async def mend(self) -> None:
        await asyncio.to_thread(self._net.cable, self._number, "up")


class Loopback:
    """Ports of its own on this machine, and a proxy before each NATS server: cut, it is refused."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self._proxies: list[Proxy] = []

    def inside(self, argv: Sequence[str]) -> list[str]:
        return list(argv)

    async def environment(self, nats_urls: Sequence[str]) -> dict[str, str]:
        self._proxies = [Proxy(urlsplit(url).port or 0) for url in nats_urls]
        for proxy in self._proxies:
            await proxy.start()
        ports = free_ports(len(SERVICES) + 1)
        first = min(ports.pop(), 65_535 - ENGINE_PORTS_EACH)
        return {
            "NATS_URL": ",".join(f"nats://127.0.0.1:{proxy.port}" for proxy in self._proxies),
            "ENGINE_PORTS": f"{first}-{first + ENGINE_PORTS_EACH}",
            **{f"{spec.variable}_PORT": str(port) for spec, port in zip(SERVICES, ports, strict=True)},
        }

    async def cut(self) -> None:
        await asyncio.gather(*(proxy.down() for proxy in self._proxies))

    async def mend(self) -> None:
        for proxy in self._proxies:
            proxy.up()

    async def stop(self) -> None:
        await asyncio.gather(*(proxy.stop() for proxy in self._proxies))


@asynccontextmanager
async def places(count: int, *, namespaces: bool) -> AsyncIterator[tuple[str, list[Place], str]]:
    """Where the centre listens, the hosts, and in words what they are."""
    async with AsyncExitStack() as stack:
        try:
            if not namespaces:
                raise NoNamespaceError("not wanted")
            net = stack.enter_context(star(count))
        except NoNamespaceError as error:
            local = [Loopback() for _ in range(count)]
            for each in local:
                stack.push_async_callback(each.stop)
            yield "127.0.0.1", list(local), f"loopback and proxies ({error})"
        else:
            yield net.centre, [Namespace(net, number) for number in range(count)], "network namespaces"
