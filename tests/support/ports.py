"""Free loopback ports."""

import socket


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
