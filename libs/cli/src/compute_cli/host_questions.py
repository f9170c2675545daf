"""What is asked of one host over NATS: its check-up, the log of one of its programs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from compute_cli.client import Refused
from compute_common import subjects
from compute_common.bus_auth import ONE_TRY, NatsSettings, connect_options
from compute_common.checkup.facts import Nats, Reach
from compute_common.schemas.checkup import Checkup, LogAsk, ProgramLog

CONNECT_SECONDS = 3
ANSWER_SECONDS = 25.0
Answer = TypeVar("Answer", Checkup, ProgramLog)


@asynccontextmanager
async def connection(settings: NatsSettings) -> AsyncIterator[Client]:
    """One that is not made again; `nats.errors.Error`, OSError, ValueError or TimeoutError where it fails."""
    client = Client()
    heard: list[Exception] = []

    async def note(error: Exception) -> None:
        heard.append(error)

    try:
        await client.connect(
            servers=settings.server_list,
            name="compute-host-questions",
            **ONE_TRY,
            connect_timeout=CONNECT_SECONDS,
            error_cb=note,
            **connect_options(settings),
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        if any("authorization" in str(each).lower() for each in (error, *heard)):
            raise PermissionError("the server refuses this login") from error
        raise
    try:
        yield client
    finally:
        await client.close()


async def nats_fact(settings: NatsSettings) -> Nats:
    """Whether the server answers and lets us in."""
    try:
        async with connection(settings):
            return Nats(settings.safe_url, Reach.ANSWERS)
    except PermissionError:
        return Nats(settings.safe_url, Reach.DENIED)
    except ValueError as error:  # a credentials file that is none; the message names the path alone
        return Nats(settings.safe_url, Reach.DENIED, str(error))
    except (nats.errors.Error, OSError, TimeoutError):
        return Nats(settings.safe_url, Reach.SILENT)


async def ask_checkup(client: Client, node_id: str) -> Checkup:
    answer = await _ask(client, "checkup", node_id, {})
    return _read(Checkup, answer, node_id)


async def ask_log(client: Client, node_id: str, ask: LogAsk) -> ProgramLog:
    answer = await _ask(client, "log", node_id, ask.model_dump(exclude_none=True))
    return _read(ProgramLog, answer, node_id)


async def _ask(client: Client, verb: str, node_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer's object; `Refused` with the reason otherwise."""
    try:
        subject = subjects.host_subject(verb, node_id)
    except ValueError as error:
        raise Refused(f"{node_id!r} is no node id") from error
    try:
        reply = await client.request(subject, json.dumps(body).encode(), timeout=ANSWER_SECONDS)
        answer = json.loads(reply.data)
    except nats.errors.NoRespondersError as error:
        hint = "`compute nodes` lists the nodes; one of 0.1.0 or earlier may not know this question"
        raise Refused(f"no resource detector answers for {node_id}; {hint}") from error
    except (TimeoutError, nats.errors.Error) as error:
        raise Refused(f"{node_id} did not answer within {ANSWER_SECONDS:g} s") from error
    except ValueError as error:
        raise Refused(f"{node_id} answered with something that is not JSON") from error
    if not isinstance(answer, dict):
        raise Refused(f"{node_id} answered with something that is no object")
    if str(answer.get("type", "")).startswith("urn:compute:error:"):
        raise Refused(str(answer.get("detail", "refused")), answer)
    return answer


def _read(model: type[Answer], answer: dict[str, Any], node_id: str) -> Answer:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise Refused(f"{node_id} answered with something else than was asked") from error
