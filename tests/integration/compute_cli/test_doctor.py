"""`compute doctor` and `compute logs SERVICE` as a user runs them, against a real suite."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.suite import RunningSuite, wait_for


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    """One host's programs and NATS, as `compute up` starts them."""
    running = RunningSuite(tmp_path_factory.mktemp("doctor") / "home")
    running.start("--no-node")
    yield running
    running.stop()


def doctor(suite: RunningSuite, *words: str) -> tuple[int, dict[str, Any]]:
    """Its exit code, and its findings by check."""
    ended = suite.compute("doctor", *words, "--json")
    answer = json.loads(ended.stdout)
    return ended.returncode, {each["check"]: each for each in answer["findings"]}


def test_a_running_suite_here_and_over_nats(suite: RunningSuite) -> None:
    for words in ((), ("--node", "test-node")):
        code, found = doctor(suite, *words)
        bad = [each for each in found.values() if each["level"] == "bad"]
        assert code == (1 if bad else 0)
        assert found["nats"]["level"] == "ok"
        assert found["clock"]["level"] == "ok"
        assert found["clock"]["found"].startswith("with that of")
        for address in suite.suite.addresses.values():
            port = found[f"port {address.port}"]
            assert port["level"] == "ok"
            assert "(pid " in port["found"], "whose it is"
    told = suite.compute("doctor").stdout.strip().splitlines()
    _code, found = doctor(suite)
    assert len(told) == len(found), "one line each"


def test_a_node_that_is_not_there(suite: RunningSuite) -> None:
    ended = suite.compute("doctor", "--node", "nobody")
    assert ended.returncode == 1
    assert "no resource detector answers for nobody" in ended.stderr
    assert suite.compute("doctor", "--node", "a b").returncode == 1


def test_a_port_somebody_else_has(tmp_path: Path) -> None:
    stopped = RunningSuite(tmp_path / "stopped")
    port = stopped.suite.addresses["work-marshaling"].port
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        code, found = doctor(stopped)
    assert code == 1
    assert "pid " in found[f"port {port}"]["found"]
    assert "WORK_MARSHALING_PORT" in found[f"port {port}"]["fix"]
    code, found = doctor(stopped)
    assert found[f"port {port}"]["level"] == "ok", "free again"
    assert found["nats"]["level"] == "ok", "none is wanted before the first start"


def test_logs_of_a_service_here_and_over_nats(suite: RunningSuite) -> None:
    for words in ((), ("--node", "test-node")):
        here = suite.compute("logs", "work-marshaling", "-n", "500", *words)
        assert here.returncode == 0, here.stderr
        assert '"event": "started"' in here.stdout
    none = suite.compute("logs", "compute-node", "--node", "test-node")
    assert none.returncode == 1
    assert "writes no log file" in none.stderr


@pytest.mark.parametrize("words", [(), ("--node", "test-node")])
def test_a_log_is_followed(suite: RunningSuite, words: tuple[str, ...], tmp_path: Path) -> None:
    log = suite.home / "logs" / "nats.log"
    word = f"followed-{len(words)}"
    out = tmp_path / "out"
    with out.open("w") as written:
        following = subprocess.Popen(
            [sys.executable, "-m", "compute_cli.main", "logs", "nats", "-f", "-n", "1", *words],
            env=suite.environment,
            stdout=written,
        )
        try:
            wait_for(out.read_text)
            with log.open("a") as file:
                file.write(f"{word}\n")
            wait_for(lambda: word in out.read_text())
        finally:
            following.terminate()
            following.wait(10)
    assert out.read_text().count(word) == 1
