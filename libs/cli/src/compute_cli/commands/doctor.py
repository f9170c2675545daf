"""What is wrong with a host, and the one thing to do about each."""

import asyncio
import os
import socket
from datetime import datetime, timedelta
from typing import Annotated

import nats.errors
import typer
from pydantic import ValidationError
from rich.text import Text

from compute_cli.client import Refused
from compute_cli.commands.nats_tools import settings_here
from compute_cli.console import AsJson, console, fail
from compute_cli.host_questions import ask_checkup, connection, nats_fact
from compute_cli.invitation import joined
from compute_cli.suite import SERVICES, Suite, running_suite, service_urls, suite_from
from compute_common.bus_auth import NatsSettings
from compute_common.checkup.facts import Clock, Nats, Reach
from compute_common.checkup.gathering import Place, check_up
from compute_common.checkup.judgement import clock_finding, worst
from compute_common.checkup.port_reader import Wanted
from compute_common.ids import slug
from compute_common.schemas.checkup import Checkup, Level
from compute_common.times import utc_now

KEPT_SECONDS = 3.0  # an answer may be that old: hosts look at most so often
_STYLE = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "bold red"}


def doctor(
    node_id: Annotated[
        str | None, typer.Option("--node", help="That host, over NATS; else this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at driver, Docker, ports, NATS, clock, disk, models, limits; exit code 1 where one is bad."""
    try:
        found = _here() if node_id is None else asyncio.run(_there(node_id))
    except (ValidationError, ValueError) as error:
        raise fail("NATS_URL, NATS_CREDS or a port is not usable") from error
    if as_json:
        print(found.model_dump_json(indent=2), flush=True)
    else:
        for each in found.findings:
            line = Text(f"{each.level.value:<4}", style=_STYLE[each.level])
            line.append(f"  {each.check}: {each.found}", style="")
            if each.fix:
                line.append(f"; fix: {each.fix}", style="bold")
            console.print(line, soft_wrap=True, highlight=False)
    raise typer.Exit(1 if found.worst is Level.BAD else 0)


def _here() -> Checkup:
    suite = suite_from(os.environ)
    wanted = _nats_wanted(suite)
    reached = asyncio.run(nats_fact(wanted)) if wanted else None
    environ = {**os.environ, **joined(suite.home), "COMPUTE_HOME": str(suite.home)}
    return check_up(
        Place(
            node_id=environ.get("NODE_ID") or slug(socket.gethostname()),
            home=suite.home,
            environ=environ,
            ports=_ports(suite, reached),
            nats=reached,
            registry_url=service_urls(os.environ)["node-registry"],
        )
    )


def _nats_wanted(suite: Suite) -> NatsSettings | None:
    """None on a machine where nothing was started, told or joined yet."""
    known = os.environ.get("NATS_URL") or running_suite(suite.home) or joined(suite.home)
    return settings_here() if known else None


def _ports(suite: Suite, reached: Nats | None) -> tuple[Wanted, ...]:
    urls = service_urls(os.environ)
    wanted = [
        Wanted(spec.name, f"{spec.variable}_PORT", address.host, address.port, urls[spec.name])
        for spec in SERVICES
        for address in (suite.addresses[spec.name],)
    ]
    if suite.nats_port is not None and (reached is None or reached.reach is not Reach.ANSWERS):
        wanted.append(Wanted("nats", "NATS_PORT", suite.nats_host, suite.nats_port))
    return tuple(wanted)


async def _there(node_id: str) -> Checkup:
    settings = settings_here()
    try:
        async with connection(settings) as client:
            sent = utc_now()
            answer = await ask_checkup(client, node_id)
            return with_clock(answer, sent, utc_now())
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise Refused(f"no NATS server lets us in at {settings.safe_url}") from error


def with_clock(answer: Checkup, sent: datetime, received: datetime) -> Checkup:
    """The answer with that host's clock beside this one's: it was stamped between the two or just before."""
    earliest = sent - timedelta(seconds=KEPT_SECONDS)
    half = (received - earliest) / 2
    clock = Clock("this machine", (answer.at - (earliest + half)).total_seconds(), half.total_seconds())
    findings = [clock_finding(clock) if each.check == "clock" else each for each in answer.findings]
    return answer.model_copy(update={"findings": findings, "worst": worst(findings)})
