"""Another machine joins in one line: two network namespaces, a cable between them, the real programs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.network import Host, NoNamespaceError, two_hosts
from tests.support.suite import wait_for

COMPUTE = [sys.executable, "-m", "compute_cli.main"]
JOINED_SECONDS = 5.0


class Machine:
    """A host with a COMPUTE_HOME of its own and the default ports."""

    def __init__(self, host: Host, home: Path) -> None:
        self.host = host
        self.home = home
        self.log = home / "out.log"
        home.mkdir()
        own = ("NATS_URL", "NODE_ID", "COMPUTE_HOME")
        self.environment = {key: value for key, value in os.environ.items() if key not in own}
        self.environment |= {"COMPUTE_HOME": str(home), "LOG_LEVEL": "WARNING"}

    def start(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        return self.host.popen([*COMPUTE, *arguments], {**self.environment, **more}, str(self.log))

    def run(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.host.inside([*COMPUTE, *arguments]),
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    try:
        with two_hosts() as (first, other):
            yield Machine(first, tmp_path / "first"), Machine(other, tmp_path / "other")
    except NoNamespaceError as error:
        pytest.skip(str(error))


ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8115/api/v1/nodes').read().decode())"


def nodes_of(first: Machine) -> dict[str, str]:
    """By asking the registry: a hundred times cheaper than the command, which is asked once."""
    argv = first.host.inside([sys.executable, "-S", "-E", "-c", ASK])
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    found = json.loads(answer.stdout)["nodes"] if answer.returncode == 0 else []
    return {node["node_id"]: node["status"] for node in found}


@pytest.mark.timeout(120)
def test_a_machine_joins_in_one_line_and_leaves(machines: tuple[Machine, Machine]) -> None:
    first, other = machines
    up = first.start("up", "--no-node", NATS_HOST=first.host.address, NODE_ID="first")
    running = [up]
    try:
        wait_for(lambda: "ready" in first.said() or up.poll() is not None, 60)
        assert up.poll() is None, first.said()
        invited = first.run("invite", "--name", "box.two", "--for", "10m")
        line = invited.stdout.strip()
        assert (invited.returncode, len(line.split())) == (0, 1), invited.stderr
        assert line.replace("-", "").replace("_", "").replace(".", "").isalnum()

        joining = other.start("join", "-")
        running.append(joining)
        assert joining.stdin is not None
        began = time.monotonic()
        joining.stdin.write(line + "\n")
        joining.stdin.close()
        wait_for(lambda: nodes_of(first).get("box.two") == "online" or joining.poll() is not None, 30)
        took = time.monotonic() - began
        assert joining.poll() is None, other.said()
        shown = first.run("nodes", "--json")
        one_command = time.monotonic() - began - took
        assert '"box.two"' in shown.stdout
        assert took < max(JOINED_SECONDS, 5 * one_command)  # on a machine that is busy with something else

        secret = json.loads((first.home / "nats-nodes.json").read_text())["nodes"][0]["password"]
        _no_secret(other, secret)
        assert (other.home / "nats.creds").stat().st_mode & 0o777 == 0o600
        kept = first.home / "nats-nodes.json"
        wait_for(lambda: json.loads(kept.read_text())["nodes"][0]["expires_at"] is None, 15)  # it stays

        left = other.run("leave")
        assert left.returncode == 0, left.stderr
        assert joining.wait(15) == 0
        wait_for(lambda: nodes_of(first).get("box.two") == "offline", 30)
        assert not (other.home / "nats.creds").exists()
        _purged(other)

        assert first.run("nats", "revoke-node", "box.two").returncode == 0
        late = other.run("join", "-", "--no-start", stdin=line)
        assert late.returncode == 1
        assert "does not let box.two in" in late.stderr
        assert secret not in late.stderr
        _purged(first)
        assert up.wait(15) == 0
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(15)
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()


def _purged(machine: Machine) -> None:
    """Nothing is left but what the test itself put there."""
    refused = machine.run("down", "--purge", stdin="n\n")
    assert refused.returncode == 1
    assert (machine.home / "logs").exists()
    done = machine.run("down", "--purge", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["left"] == [str(machine.log)]


def _no_secret(other: Machine, secret: str) -> None:
    """Neither in a command line, nor in an environment, nor in what was said."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            seen = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        assert secret.encode() not in seen
    for log in (other.log, *(other.home / "logs").glob("*.log")):
        assert secret not in log.read_text(errors="replace")


def test_a_suite_on_loopback_invites_nobody(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    (home / "run" / "suite.json").write_text(json.dumps({"nats_host": "127.0.0.1", "nats_port": 4222}))
    environment = {**os.environ, "COMPUTE_HOME": str(home)}
    argv = [*COMPUTE, "invite"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "NATS_HOST=" in done.stderr
