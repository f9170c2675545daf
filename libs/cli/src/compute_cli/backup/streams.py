"""Streams out of and into a NATS server, by JetStream's own snapshot and restore requests.

A snapshot is consistent while work goes on. A bucket is a stream too (`KV_…`, `OBJ_…`). Each piece that the
server sends waits for our empty answer, and each piece that we send for the server's: neither runs ahead.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

PIECE_BYTES = 128 * 1024
PATIENCE_SECONDS = 30.0
_API = "$JS.API.STREAM"

Json = dict[str, Any]


class StreamError(Exception):
    """JetStream refused, or fell silent; the message says what."""


async def stream_names(nats: Client) -> list[str]:
    """Every stream of the account."""
    found: list[str] = []
    while True:
        answer = await _ask(nats, f"{_API}.NAMES", {"offset": len(found)})
        found += answer.get("streams") or []
        if len(found) >= answer.get("total", 0):
            return found


async def snapshot(nats: Client, stream: str, path: Path) -> Json:
    """Write a stream into `path`; what `restore` needs to know of it (`config`, `state`)."""
    inbox = nats.new_inbox()
    heard = await nats.subscribe(inbox)
    try:
        order = {"deliver_subject": inbox, "chunk_size": PIECE_BYTES, "no_consumers": False}
        answer = await _ask(nats, f"{_API}.SNAPSHOT.{stream}", order)
        with path.open("wb") as file:
            while piece := await _piece(heard.next_msg(PATIENCE_SECONDS), stream):
                await asyncio.to_thread(file.write, piece.data)
                if piece.reply:
                    await nats.publish(piece.reply, b"")
    finally:
        await heard.unsubscribe()
    return {"config": answer["config"], "state": answer["state"]}


async def restore(nats: Client, told: Json, path: Path) -> None:
    """Make a stream anew from what `snapshot` wrote and told; StreamError where it is there already."""
    stream = told["config"]["name"]
    order = {"config": told["config"], "state": told["state"]}
    target = (await _ask(nats, f"{_API}.RESTORE.{stream}", order))["deliver_subject"]
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, PIECE_BYTES):
            _accepted(await nats.request(target, data, PATIENCE_SECONDS), stream)
    _accepted(await nats.request(target, b"", PATIENCE_SECONDS), stream)


async def remove(nats: Client, stream: str) -> None:
    """Delete a stream with all that is in it."""
    await _ask(nats, f"{_API}.DELETE.{stream}", {})


async def _ask(nats: Client, subject: str, body: Json) -> Json:
    answer: Json = json.loads((await nats.request(subject, json.dumps(body).encode(), PATIENCE_SECONDS)).data)
    if error := answer.get("error"):
        raise StreamError(f"{subject.removeprefix('$JS.API.')}: {error.get('description', 'refused')}")
    return answer


async def _piece(waiting: Any, stream: str) -> Msg | None:
    """The next piece; None at the end, which is an empty message without an error status."""
    try:
        message: Msg = await waiting
    except TimeoutError as error:
        raise StreamError(f"the server fell silent while it sent {stream}") from error
    if message.data:
        return message
    status = (message.headers or {}).get("Status", "")
    if status not in ("", "204"):
        raise StreamError(f"the server gave up sending {stream} (status {status})")
    return None


def _accepted(message: Msg, stream: str) -> None:
    answer = json.loads(message.data) if message.data else {}
    if error := answer.get("error"):
        raise StreamError(f"restoring {stream}: {error.get('description', 'refused')}")
