"""Whether the suite's ports are free, and who holds one that is not."""

import socket
from collections.abc import Container, Iterator

import psutil

from compute_cli.suite import DEFAULT_NATS_PORT, SERVICES, Suite


def taken_ports(suite: Suite, services: Container[str]) -> Iterator[str]:
    """One sentence for every port of `services` and NATS that cannot be listened on."""
    for spec in (spec for spec in SERVICES if spec.name in services):
        address = suite.addresses[spec.name]
        if not _free(address.host, address.port):
            yield _sentence(address.port, spec.name, f"{spec.variable}_PORT")
    if suite.nats_port is not None and not _free(suite.nats_host, suite.nats_port):
        hint = (
            "NATS_PORT"
            if suite.nats_port != DEFAULT_NATS_PORT
            else f"NATS_URL=nats://127.0.0.1:{suite.nats_port}"
        )
        yield _sentence(
            suite.nats_port, "NATS", hint if "=" not in hint else f"NATS_PORT, or {hint} to use it"
        )


def _sentence(port: int, wanted_by: str, variable: str) -> str:
    owner = _owner(port)
    held = f" by {owner}" if owner else ""
    return f"port {port} ({wanted_by}) is already in use{held}; stop that program or set {variable}"


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _owner(port: int) -> str | None:
    """Name and pid of the listener, where this user may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return (
                    f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
                    if connection.pid
                    else None
                )
    except psutil.Error:
        return None
    return None
