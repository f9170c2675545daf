"""`compute nats …` as a user runs it, against a real server."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from compute_common import subjects
from compute_common.bus import Bus
from tests.support.nats import NatsServer
from tests.support.waiting import until

COMPUTE = [sys.executable, "-m", "compute_cli.main", "nats"]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMPUTE, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


async def test_publish_listen_ask(nats_server: NatsServer, bus: Bus) -> None:
    async def echo(body: dict[str, object]) -> object:
        return {"heard": body}

    await bus.serve("compute.test.echo", echo)
    await bus.flush()
    process = await asyncio.create_subprocess_exec(
        *(*COMPUTE, "sub", "compute.test.>", "-n", "1"),
        env={"NATS_URL": nats_server.url},
        stdout=asyncio.subprocess.PIPE,
    )

    async def heard() -> bool:
        await bus.publish("compute.test.one", {"a": 1})
        return process.returncode is not None

    await until(heard, 20)
    said, _ = await process.communicate()
    assert json.loads(said) == {"subject": "compute.test.one", "data": {"a": 1}}


def test_what_the_server_is_and_what_it_refuses(nats_server: NatsServer, tmp_path: Path) -> None:
    found = json.loads(run("info", "--json", NATS_URL=nats_server.url).stdout)
    assert (found["server_name"], found["max_payload"]) == ("compute-embedded", 1 << 20)
    assert found["jetstream"].startswith("0 streams")
    asked = run("pub", subjects.WORK_STATUS, "{}", "--ask", NATS_URL=nats_server.url)
    assert (asked.returncode, "nobody serves" in asked.stderr) == (1, True)
    assert run("pub", "compute.test.x", '{"a": 1}', NATS_URL=nats_server.url).returncode == 0
    secret = "nats://someone:s3cr3t@127.0.0.1:9"
    refused = run("info", NATS_URL=secret)
    assert refused.returncode == 1
    assert "127.0.0.1:9" in refused.stderr
    assert "s3cr3t" not in refused.stderr


def test_an_account_as_a_user_makes_it(nats_server: NatsServer) -> None:
    home = str(nats_server.home)
    began = time.monotonic()
    added = json.loads(run("add-node", "box.1", "--dir", home, "--json").stdout)
    credentials = Path(added["credentials"])
    assert added["account"] == "node-box=2E1"
    assert (added["active"], credentials.stat().st_mode & 0o777) == (True, 0o600)
    info = json.loads(run("info", "--json", NATS_URL=nats_server.url, NATS_CREDS=str(credentials)).stdout)
    assert info["jetstream"] == "not for this account"
    listed = json.loads(run("list", "--dir", home, "--json").stdout)
    assert [row["node_id"] for row in listed["accounts"]] == ["box.1"]
    assert credentials.read_text().split(":")[1].strip() not in json.dumps([added, listed])
    refused = run("revoke-node", "stranger", "--dir", home)
    assert (refused.returncode, "stranger" in refused.stderr) == (1, True)
    assert run("revoke-node", "box.1", "--dir", home).returncode == 0
    assert not credentials.exists()
    assert run("add-node", "a b", "--dir", home).returncode == 1
    assert time.monotonic() - began < 60
