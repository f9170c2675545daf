"""What a program of the suite or an engine says, from whichever host it runs on."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import nats.errors
import typer
from nats.aio.client import Client
from pydantic import ValidationError

from compute_cli.client import Refused, Services, path_segment
from compute_cli.commands.nats_tools import settings_here
from compute_cli.console import AsJson, as_written, console, fail, show
from compute_cli.host_questions import ask_log, connection
from compute_cli.suite import SERVICE_NAMES, home_of
from compute_common.checkup.program_log import read_log
from compute_common.problems import Problem
from compute_common.schemas.checkup import LogAsk, ProgramLog

SERVICE = "vllm-orchestrator"
PROGRAMS = SERVICE_NAMES | {"nats", "compute-node"}
LOOK_SECONDS = 0.5
THIS_HOST = "this host"


def logs(
    name: Annotated[str, typer.Argument(metavar="SERVICE|INSTANCE", help="A program, or an instance.")],
    node_id: Annotated[
        str | None, typer.Option("--node", help="That host's; of an instance over several: its part.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And what it goes on to say.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=2000, help="Of its end.")] = 200,
    as_json: AsJson = False,
) -> None:
    """The log of a service (of nats, compute-node), or of a deployed model's engine."""
    if name in PROGRAMS:
        _program(LogAsk(program=name, lines=lines), node_id, follow, as_json)
    else:
        _instance(name, node_id, follow, lines, as_json)


def _instance(instance: str, node_id: str | None, follow: bool, lines: int, as_json: bool) -> None:
    path = f"/api/v1/vllm/instances/{path_segment(instance)}/logs"
    with Services() as services:
        if not follow:
            tail = services.get(SERVICE, path, lines=lines, node_id=node_id)
            show(tail, as_json, lambda found: as_written("\n".join(found["lines"])))
            return
        for kind, data in services.events(SERVICE, f"{path}/events", lines=lines, node_id=node_id):
            if kind == "problem":
                raise Refused(str(json.loads(data).get("detail", data)))
            if kind == "message":
                console.print(as_written(data if as_json else json.loads(data)), crop=False)


def _program(ask: LogAsk, node_id: str | None, follow: bool, as_json: bool) -> None:
    try:
        asyncio.run(_tell(ask, node_id, follow, as_json))
    except Problem as problem:
        raise Refused(problem.detail) from problem
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _tell(ask: LogAsk, node_id: str | None, follow: bool, as_json: bool) -> None:
    async with _source(node_id) as source:
        found = await source.read(ask)
        if as_json and not follow:
            print(found.model_dump_json(indent=2), flush=True)
            return
        _print(found, as_json)
        while follow:
            await asyncio.sleep(0 if len(found.lines) > ask.lines else LOOK_SECONDS)
            found = await source.read(ask.model_copy(update={"offset": found.next_offset}))
            _print(found, as_json)


def _print(found: ProgramLog, as_json: bool) -> None:
    for line in found.lines:
        print(json.dumps(line) if as_json else line, flush=True)


class _Source:
    """This host's files, or another host's over one connection."""

    def __init__(self, node_id: str | None, client: Client | None) -> None:
        self._node_id = node_id
        self._client = client

    async def read(self, ask: LogAsk) -> ProgramLog:
        if self._client is None or self._node_id is None:
            return read_log(home_of(os.environ) / "logs", THIS_HOST, ask)
        return await ask_log(self._client, self._node_id, ask)


@asynccontextmanager
async def _source(node_id: str | None) -> AsyncIterator[_Source]:
    if node_id is None:
        yield _Source(None, None)
        return
    try:
        settings = settings_here()
    except (ValidationError, ValueError) as error:
        raise fail("NATS_URL or NATS_CREDS is not usable") from error
    try:
        async with connection(settings) as client:
            yield _Source(node_id, client)
    except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
        raise Refused(f"no NATS server lets us in at {settings.safe_url}") from error
