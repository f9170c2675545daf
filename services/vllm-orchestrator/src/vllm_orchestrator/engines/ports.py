"""A free port for an engine."""

import errno
import random
import socket
from collections.abc import Container

from compute_common.problems import unavailable


def free_port(host: str, ports: range, taken: Container[int]) -> int:
    """A port nobody listens on and nobody was promised. Raises Problem 503 when there is none.

    Any of them, not the first: llama-server shares a port with another unasked (SO_REUSEPORT), so two
    orchestrators of one machine that start an engine at the same moment must not both reach for the same one.
    """
    for port in random.SystemRandom().sample(ports, len(ports)):
        if port not in taken and is_free(host, port):
            return port
    raise unavailable(
        "no-port",
        f"every port of ENGINE_PORTS ({ports.start}-{ports.stop - 1}) on {host} is taken: stop an instance,"
        " or give ENGINE_PORTS a wider range",
    )


def is_free(host: str, port: int) -> bool:
    """Whether `port` can be listened on. Raises Problem 503 when `host` is no address of this machine."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise unavailable("engine-bind", f"ENGINE_BIND {host} cannot be listened on here") from error
    return True
