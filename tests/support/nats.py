"""A real nats-server for a test, with the accounts and JetStream of the embedded default."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from compute_cli import nats_server
from tests.support.ports import free_port


class NatsServer:
    """Started on a free port; can be killed and started again on the same port and store."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = nats_server.start(self.home, self.port, self.home / "nats.log")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.02)
        raise RuntimeError(f"nats-server did not listen; see {self.home / 'nats.log'}")

    def stop(self, kill: bool = False) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL if kill else signal.SIGTERM)
            self.process.wait(10)
        self.process = None
