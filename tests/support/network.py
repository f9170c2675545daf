"""Two network namespaces with a cable between them, where this process may make them."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

_IP = shutil.which("ip") or "/sbin/ip"


class NoNamespaceError(Exception):
    """None can be made here; the text says why."""


@dataclass(frozen=True)
class Host:
    """A network namespace: its own loopback, and an address that the other one reaches."""

    name: str
    address: str

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` there."""
        return [_IP, "netns", "exec", self.name, *argv]

    def popen(self, argv: Sequence[str], environment: Mapping[str, str], log: str) -> "subprocess.Popen[str]":
        """Start a program there; its standard input is a pipe."""
        with open(log, "a") as out:  # noqa: PTH123 - a name given as text
            return subprocess.Popen(
                self.inside(argv),
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                text=True,
            )


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Both gone at the end. NoNamespaceError where this process may not make them."""
    if os.geteuid() != 0 or not Path(_IP).exists():
        raise NoNamespaceError("needs root and iproute2 to make network namespaces")
    mark = uuid4().hex[:6]
    net = 16 + int(mark[:2], 16) % 200  # beside other runs on the same machine
    hosts = [Host(f"ct-{mark}-{side}", f"10.197.{net}.{number}") for number, side in ((1, "a"), (2, "b"))]
    cable = [f"v{mark}{side}" for side in "ab"]
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        _ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for host, end in zip(hosts, cable, strict=True):
            _ip("link", "set", end, "netns", host.name)
            for words in (
                ("address", "add", f"{host.address}/24", "dev", end),
                ("link", "set", end, "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", host.name, *words)
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            subprocess.run([_IP, "netns", "delete", host.name], capture_output=True, check=False, timeout=20)


def _ip(*words: str) -> None:
    done = subprocess.run([_IP, *words], capture_output=True, text=True, check=False, timeout=20)
    if done.returncode != 0:
        raise NoNamespaceError(f"no network namespace can be made here: {done.stderr.strip()}")


class Star:
    """Hosts that reach this process's own network, at `centre`, and not one another."""

    def __init__(self, hosts: int) -> None:
        mark = uuid4().hex[:6]
        net = 16 + int(mark[:2], 16) % 200
        self.centre = f"10.196.{net}.1"
        self.hosts = [Host(f"cs-{mark}-{n}", f"10.196.{net}.{11 + n}") for n in range(hosts)]
        self._cables = [f"s{mark}{n}" for n in range(hosts)]

    def lay(self) -> None:
        for host, cable in zip(self.hosts, self._cables, strict=True):
            _ip("netns", "add", host.name)
            far = f"{cable}b"
            _ip("link", "add", cable, "type", "veth", "peer", "name", far, "netns", host.name)
            _ip("address", "add", self.centre, "peer", host.address, "dev", cable)
            _ip("link", "set", cable, "up")
            _ip("-n", host.name, "address", "add", host.address, "peer", self.centre, "dev", far)
            for device in (far, "lo"):
                _ip("-n", host.name, "link", "set", device, "up")

    def cable(self, number: int, state: Literal["up", "down"]) -> None:
        """Pull a host's cable, or plug it in: silence, not a refusal."""
        _ip("link", "set", self._cables[number], state)

    def remove(self) -> None:
        for host in self.hosts:
            subprocess.run([_IP, "netns", "delete", host.name], capture_output=True, check=False, timeout=20)


@contextmanager
def star(hosts: int) -> Iterator[Star]:
    """Gone at the end. NoNamespaceError where this process may not make it."""
    if os.geteuid() != 0 or not Path(_IP).exists():
        raise NoNamespaceError("needs root and iproute2 to make network namespaces")
    made = Star(hosts)
    try:
        made.lay()
        yield made
    finally:
        made.remove()


@contextmanager
def another_host() -> Iterator[tuple[str, Host]]:
    """A namespace with a cable to this process's own: our address there, and the host.

    NoNamespaceError where this process may not make it.
    """
    if os.geteuid() != 0 or not Path(_IP).exists():
        raise NoNamespaceError("needs root and iproute2 to make network namespaces")
    mark = uuid4().hex[:6]
    net = 16 + int(mark[:2], 16) % 200
    ours, host = f"10.198.{net}.1", Host(f"ct-{mark}", f"10.198.{net}.2")
    try:
        _ip("netns", "add", host.name)
        _ip("link", "add", f"v{mark}a", "type", "veth", "peer", "name", f"v{mark}b", "netns", host.name)
        _ip("address", "add", f"{ours}/24", "dev", f"v{mark}a")
        _ip("link", "set", f"v{mark}a", "up")
        _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", f"v{mark}b")
        for device in (f"v{mark}b", "lo"):
            _ip("-n", host.name, "link", "set", device, "up")
        yield ours, host
    finally:
        subprocess.run([_IP, "netns", "delete", host.name], capture_output=True, check=False, timeout=20)
