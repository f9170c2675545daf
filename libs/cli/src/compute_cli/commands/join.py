"""Another machine joins in one line, and leaves again."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from compute_cli import invitation, node_accounts
from compute_cli.commands import host
from compute_cli.commands.nats import apply
from compute_cli.commands.owner import seconds_of
from compute_cli.console import AsJson, fail, say, show
from compute_cli.down import end_suite
from compute_cli.invitation import Invitation
from compute_cli.nats_server import is_loopback
from compute_cli.node_login import Refusal, try_login
from compute_cli.suite import EVERYWHERE, home_of, running_suite, suite_from
from compute_common.ids import new_id
from compute_common.times import rfc3339

FAR_AWAY = ("192.0.2.1", 9)  # of no one (RFC 5737); connecting a datagram socket sends nothing
LONGEST_SECONDS = 30 * 86_400


def invite(
    name: Annotated[str | None, typer.Option("--name", help="The node's id; else a new one.")] = None,
    span: Annotated[str, typer.Option("--for", help="How long it may be taken up: 1h, 30m, 2d.")] = "1h",
    address: Annotated[
        str | None, typer.Option("--address", help="This machine as the other one reaches it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print one line with which another machine joins this cluster; the line is a secret."""
    home = home_of(os.environ)
    seconds = seconds_of(span)
    if seconds > LONGEST_SECONDS:
        raise fail("an invitation lasts 30 days at most")
    url = _address(running_suite(home), address)
    try:
        node = node_accounts.add(home, name or new_id("node"), time.time() + seconds)
    except (ValueError, OSError) as error:
        raise fail(str(error)) from error
    if not apply(home, node):
        raise fail("the suite's NATS server does not run any more")
    certificate = os.environ.get("NATS_CA")
    ca = Path(certificate).read_text() if certificate else ""
    line = Invitation(url, node.node_id, node.password, time.time() + seconds, ca).line()
    say(f"on the other machine, within {span}: compute join -   (and paste the line)")
    if as_json:
        print(json.dumps({"node_id": node.node_id, "nats_url": url, "line": line}), flush=True)
    else:
        print(line, flush=True)  # no console: one that wraps would break it


def join(
    line: Annotated[
        str,
        typer.Argument(metavar="LINE", help="What `compute invite` printed; - reads it from standard input."),
    ] = "-",
    start: Annotated[bool, typer.Option(help="Bring up this host's programs and stay.")] = True,
) -> None:
    """Join a cluster with the line of an invitation, and run what this host needs until a signal ends it."""
    home = home_of(os.environ)
    try:
        invited = invitation.read_line(sys.stdin.readline() if line == "-" else line)
    except ValueError as error:
        raise fail(str(error)) from error
    before = invitation.joined(home)
    if before and before["NATS_URL"] != invited.nats_url:
        raise fail(f"this machine belongs to {before['NATS_URL']} already; `compute leave` ends that")
    _must_be_let_in(invited)
    invitation.store(home, invited)
    say(f"joined {invited.nats_url} as {invited.node_id}; from now on `compute up --host-only` is enough")
    if start:
        host.up(host_only=True)


def leave(as_json: AsJson = False) -> None:
    """End this host's programs and forget the cluster that it joined."""
    home = home_of(os.environ)
    node_id = invitation.joined(home).get("NODE_ID")
    try:
        ended = end_suite(suite_from(os.environ)) if node_id else False
    except (ValueError, TimeoutError) as error:
        raise fail(str(error)) from error
    left = invitation.forget(home)
    if left:
        say(f"on the first machine, `compute nats revoke-node {node_id}` ends its account")
    answer = {"left": left, "ended": ended, "node_id": node_id}
    show(answer, as_json, lambda _: "left" if left else "this machine has joined no cluster")


def _address(suite: Mapping[str, Any], given: str | None) -> str:
    """The address for the other machine; leaves with what to do where there is none."""
    port, listens = suite.get("nats_port"), str(suite.get("nats_host"))
    if port is None:
        raise fail(
            "no suite with a NATS server of its own runs from here: start it with "
            "NATS_HOST=<this machine's address> compute up; for a server of yours see `compute nats add-node`"
        )
    if is_loopback(listens):
        raise fail(
            f"NATS listens on {listens}, where no other machine reaches it: start the suite with "
            "NATS_HOST=<this machine's address> compute up"
        )
    reached = given or (_outward() if listens in EVERYWHERE else listens)
    scheme = "tls" if str(suite.get("nats_url", "")).startswith("tls:") else "nats"
    return f"{scheme}://{f'[{reached}]' if ':' in reached else reached}:{port}"


def _outward() -> str:
    """This machine's address on the way out."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(FAR_AWAY)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise fail("this machine has no way out: name its address with --address") from error


def _must_be_let_in(invited: Invitation) -> None:
    refusal = asyncio.run(try_login(invited))
    until = rfc3339(invited.expires)
    if refusal is Refusal.UNREACHABLE:
        raise fail(
            f"no NATS server answers at {invited.nats_url}: is it up, and is its port open to this machine?"
        )
    if refusal is Refusal.DENIED:
        raise fail(
            f"{invited.nats_url} does not let {invited.node_id} in: the invitation ended at {until}, "
            "was revoked or was replaced; ask for a new one"
        )
