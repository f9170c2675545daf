"""Free loopback ports."""

import socket
from collections.abc import Iterable


def free_ports(count: int) -> list[int]:
    """`count` different ports nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_port() -> int:
    """A port nobody listens on now."""
    return free_ports(1)[0]


def all_free(address: str, ports: Iterable[int]) -> bool:
    """Whether somebody could listen on each of these now."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
