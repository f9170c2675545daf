"""The Docker proxy as a program of its own, before a real Docker Engine."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.suite import wait_for


@contextmanager
def docker_proxy(models: Path, **more: str) -> Iterator[Path]:
    """Its socket, in a folder whose name is short enough for one."""
    folder = Path(tempfile.mkdtemp(prefix="dp"))
    path = folder / "s"
    settings = {"DOCKER_PROXY_SOCKET": str(path), "VLLM_MODEL_HOST_PATH": str(models), **more}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "compute_docker_proxy"], env={**os.environ, **settings}, stderr=log
        )
    try:
        wait_for(lambda: _answers(path), 10)
        yield path
    finally:
        process.terminate()
        code = process.wait(10)
        shutil.rmtree(folder)
        assert code == 0
        assert not path.exists()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.1 403")
    return False


def docker(*arguments: str) -> str:
    """What the command line says of the same Engine, behind the proxy's back."""
    argv = ["docker", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def containers_of(node_id: str) -> list[str]:
    """Ids of all containers of a node's engines, ended ones too."""
    label = f"label=compute.node={node_id}"
    return docker("ps", "-aq", "--no-trunc", "--filter", label).split()
