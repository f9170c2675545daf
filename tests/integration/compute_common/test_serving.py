"""A service as it is really started: where it may listen, TLS, connections that never say anything."""

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from compute_cli.client import Refused, Services
from compute_cli.suite import uvicorn_argv
from compute_common.shell import connections
from tests.support.certificates import make_certificate
from tests.support.ports import free_port
from tests.support.suite import wait_for

KEY = "a key of the environment, long enough"


def environment(folder: Path, **more: str) -> dict[str, str]:
    quiet = {"NATS_URL": "nats://127.0.0.1:9", "NATS_WAIT_SECONDS": "0.01", "LOG_LEVEL": "ERROR"}
    return {**os.environ, **quiet, "NODE_ID": "box", "COMPUTE_HOME": str(folder / "home"), **more}


@contextmanager
def served(folder: Path, host: str = "127.0.0.1", **more: str) -> Iterator[int]:
    """The port of a benchmark runner as `compute serve` starts it."""
    port = free_port()
    log = folder / "served.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            uvicorn_argv("benchmark_runner", host, port), env=environment(folder, **more), stderr=output
        )
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, 20)
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.parametrize(
    "command",
    [
        [
            sys.executable,
            "-m",
            "compute_common.shell.serve",
            "benchmark_runner",
            "--host",
            "0.0.0.0",
            "--port",
            "1",
        ],
        [sys.executable, "-m", "compute_cli.main", "serve", "node-registry", "--host", "::"],
        [sys.executable, "-m", "compute_cli.main", "up"],
    ],
    ids=["service", "compute serve", "compute up"],
)
def test_nothing_listens_beyond_loopback_without_a_key(tmp_path: Path, command: list[str]) -> None:
    found = environment(tmp_path, COMPUTE_BIND="192.0.2.1", COMPUTE_ALLOW_NO_KEY="0")
    ended = subprocess.run(command, env=found, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 78
    told = [line for line in ended.stderr.splitlines() if "refusing to listen" in line]
    assert len(told) == 1
    assert "compute keys add" in told[0]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("reason", [{"COMPUTE_API_KEY": KEY}, {"COMPUTE_ALLOW_NO_KEY": "1"}])
def test_with_a_key_or_when_told_to_it_listens(tmp_path: Path, reason: dict[str, str]) -> None:
    with served(tmp_path, "0.0.0.0", **reason) as port:
        status = httpx.get(f"http://127.0.0.1:{port}/api/v1/benchmarks").status_code
        assert status == (401 if "COMPUTE_API_KEY" in reason else 200)


def test_a_key_file_counts_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "compute_cli.main", "keys", "add", "ann", "--scope", "write", "--use"]
    made = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=True)
    token = made.stdout.strip()
    with served(tmp_path, "0.0.0.0") as port:
        url = f"http://127.0.0.1:{port}/api/v1/benchmarks"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"X-API-Key": token}).status_code == 200
        asking = environment(tmp_path, BENCHMARK_RUNNER_URL=f"http://127.0.0.1:{port}")
        with Services(asking) as services:  # shows the token that `--use` kept
            assert services.get("benchmark-runner", "/api/v1/benchmarks")["count"] == 0


def test_tls_with_a_certificate_that_clients_verify(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "tls", "127.0.0.1", "localhost")
    tls = {"COMPUTE_TLS_CERT": str(certificate), "COMPUTE_TLS_KEY": str(key)}
    with served(tmp_path, **tls) as port:
        asking = environment(tmp_path, BENCHMARK_RUNNER_URL=f"https://127.0.0.1:{port}")
        with Services({**asking, "COMPUTE_TLS_CA": str(certificate)}) as services:
            assert services.get("benchmark-runner", "/api/v1/benchmarks")["count"] == 0
        with Services(asking) as services, pytest.raises(Refused, match="does not answer"):
            services.get("benchmark-runner", "/api/v1/benchmarks")  # not among the system's authorities
        probe = [sys.executable, "-m", "compute_common.probe"]
        found = {**environment(tmp_path, **tls), "PORT": str(port)}
        assert subprocess.run(probe, env=found, check=False).returncode == 0
        strangers, _ = make_certificate(tmp_path / "strangers", "127.0.0.1")
        found["COMPUTE_TLS_CERT"] = str(strangers)
        assert subprocess.run(probe, env=found, check=False, capture_output=True).returncode == 1
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        assert old.minimum_version >= ssl.TLSVersion.TLSv1_2
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/livez")


@pytest.mark.parametrize(
    "wrong",
    [{"COMPUTE_TLS_CERT": "/nowhere.pem"}, {"COMPUTE_TLS_CERT": "/a.pem", "COMPUTE_TLS_KEY": "/nowhere.pem"}],
)
def test_half_of_tls_is_refused_in_one_line(tmp_path: Path, wrong: dict[str, str]) -> None:
    command = uvicorn_argv("benchmark_runner", "127.0.0.1", free_port())
    found = environment(tmp_path, **wrong)
    ended = subprocess.run(command, env=found, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 78
    assert ended.stderr.startswith("compute: ")
    assert ended.stderr.count("\n") == 1


def test_slow_and_endless_heads_are_cut_off(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        silent, slow, endless = (socket.create_connection(("127.0.0.1", port), 20) for _ in range(3))
        started = time.monotonic()
        with silent, slow, endless:
            endless.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
            with suppress(OSError):
                for _ in range(80):
                    endless.sendall(b"X-A: " + b"a" * 1019 + b"\r\n")
            with suppress(OSError):
                assert b" 400 " in endless.recv(100)
            assert time.monotonic() - started < connections.HEAD_SECONDS
            slow.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
            assert _cut_off(slow, b"a", connections.HEAD_SECONDS + 3)  # a byte now and then does not help it
            silent.settimeout(5)
            assert silent.recv(100) == b""
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200


def _cut_off(connection: socket.socket, drip: bytes, within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    connection.settimeout(0.25)
    while time.monotonic() < deadline:
        try:
            connection.sendall(drip)
            return connection.recv(100) == b""
        except TimeoutError:
            continue
        except OSError:
            return True
    return False
