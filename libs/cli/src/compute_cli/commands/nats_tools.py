"""`compute nats info|sub|pub`: a look at the bus, with the suite's own login."""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import nats.errors
import nats.js.errors
import typer
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from compute_cli import nats_server
from compute_cli.console import AsJson, fail, show
from compute_cli.invitation import joined
from compute_cli.suite import home_of, running_suite
from compute_common.bus_auth import ONE_TRY, NatsSettings, connect_options

CONNECT_SECONDS = 3
ANSWER_SECONDS = 5.0
Answer = TypeVar("Answer")


def info(as_json: AsJson = False) -> None:
    """The server: name, version, clients' limit, and whether the work log can be used."""
    show(with_client(_info), as_json, lambda found: "\n".join(f"{key}: {found[key]}" for key in found))


def sub(
    subject: Annotated[str, typer.Argument(help="With wildcards: 'compute.nodes.>'")],
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="End after so many; 0: Ctrl-C.")] = 0,
) -> None:
    """Print what is published: one JSON object a line, {subject, data, reply}."""

    async def listen(client: Client) -> None:
        left = asyncio.Event()
        heard = 0

        async def note(msg: Msg) -> None:
            nonlocal heard
            heard += 1
            if not left.is_set():
                print(json.dumps(_line(msg)), flush=True)
            if heard == count:
                left.set()

        await client.subscribe(subject, cb=note)
        await client.flush()
        await left.wait()

    with_client(listen)


def pub(
    subject: Annotated[str, typer.Argument(help="Where to.")],
    message: Annotated[str, typer.Argument(help="Usually JSON; - reads standard input.")] = "{}",
    ask: Annotated[bool, typer.Option("--ask", help="Wait for one answer and print it.")] = False,
) -> None:
    """Publish one message."""
    data = typer.get_text_stream("stdin").read() if message == "-" else message

    async def send(client: Client) -> None:
        if ask:
            answer = await client.request(subject, data.encode(), timeout=ANSWER_SECONDS)
            print(answer.data.decode(errors="replace"), flush=True)
        else:
            await client.publish(subject, data.encode())
            await client.flush()

    with_client(send)


def settings_here() -> NatsSettings:
    """The variables' server; else the running suite's, with its login; else the one that was joined."""
    if os.environ.get("NATS_URL"):
        return NatsSettings()
    home = home_of(os.environ)
    suite = running_suite(home)
    if suite.get("nats_port"):
        login = (
            nats_server.shared_login(home)
            if nats_server.wants_login(str(suite["nats_host"]), os.environ)
            else {}
        )
        return NatsSettings.model_validate({"NATS_URL": suite["nats_url"], **login})
    return NatsSettings.model_validate(joined(home))


def with_client(work: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
    """What `work` answers; leaves with a line that a person can act on."""
    try:
        return asyncio.run(_run(settings_here(), work))
    except (ValidationError, ValueError) as error:
        raise fail("NATS_URL or NATS_CREDS is not usable") from error
    except nats.errors.NoRespondersError as error:
        raise fail("nobody serves that subject") from error
    except nats.errors.BadSubjectError as error:
        raise fail("that is no subject") from error
    except (TimeoutError, nats.errors.Error) as error:
        raise fail("no answer in time, or the connection was refused") from error
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _run(settings: NatsSettings, work: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
    client = Client()
    try:
        try:
            await client.connect(
                servers=settings.server_list,
                name="compute-nats",
                **ONE_TRY,
                connect_timeout=CONNECT_SECONDS,
                error_cb=_quiet,
                **connect_options(settings),
            )
        except (OSError, nats.errors.Error, TimeoutError) as error:
            raise fail(f"no NATS server lets us in at {settings.safe_url}") from error
        return await work(client)
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.close(), CONNECT_SECONDS)


async def _info(client: Client) -> dict[str, Any]:
    known = client._server_info
    named = (
        "server_name",
        "version",
        "host",
        "port",
        "max_payload",
        "tls_required",
        "auth_required",
        "cluster",
    )
    found = {name: known[name] for name in named if name in known}
    try:
        account = await client.jetstream(timeout=CONNECT_SECONDS).account_info()
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
        return {**found, "jetstream": "not for this account"}
    return {**found, "jetstream": f"{account.streams} streams, {account.storage} bytes on disk"}


def _line(msg: Msg) -> dict[str, Any]:
    try:
        data = json.loads(msg.data)
    except ValueError:
        data = msg.data.decode(errors="replace")
    return {"subject": msg.subject, "data": data, **({"reply": msg.reply} if msg.reply else {})}


async def _quiet(_error: Exception) -> None:
    """A refusal is told by its exception."""
