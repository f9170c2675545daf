"""Models between the nodes of one cluster, over NATS: hosts behind NAT need no address for it.

`compute.vllm.files.v1` asks everybody who has a model whole; `compute.vllm.files.v1.<node_id>` reads a piece
of a file of it. A host with a NATS account of its own can say only the first, which arrives under
`compute.node.<id>.files`: it names there whom it wants a piece of. Names are looked up in the host's own
listing, never joined to a path.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import nats.errors
import structlog
from pydantic import Field, ValidationError

from compute_common import subjects, wire_json
from compute_common.bus import Bus, Message
from compute_common.ids import Identifier
from compute_common.problems import Problem, not_found, unavailable
from compute_common.schemas.base import Wire
from compute_common.schemas.vllm import ModelName
from compute_common.tasks import end_tasks
from vllm_orchestrator.downloads.listing import Listing, RemoteFile, remote_file
from vllm_orchestrator.downloads.local import LocalModels

log = structlog.get_logger("downloads")

PIECE_BYTES = 512 << 10  # below NATS' payload limit of 1 MiB
WINDOW = 4  # pieces under way
WHO_SECONDS = 0.7
PIECE_SECONDS = 20
KNOWN_SECONDS = 3.0
MAX_KNOWN = 8
BYTES = b"\x00"  # before a piece: a problem begins with `{`


class FilesAsk(Wire):
    """Who has `model_name`; with `path` the piece of that file from `offset` on, of `node_id` if given."""

    model_name: ModelName
    node_id: Identifier | None = None
    path: Annotated[str, Field(max_length=512)] | None = None
    offset: Annotated[int, Field(ge=0, le=1 << 45)] = 0
    length: Annotated[int, Field(ge=1, le=PIECE_BYTES)] = PIECE_BYTES


class Holder(Wire):
    """A node that has a model whole."""

    node_id: Identifier
    files: dict[str, int] = Field(description="Relative name → bytes")
    ask_all: bool = Field(False, description="Pieces are asked for on the general subject, with `node_id`")


class FileServer:
    """This host's side."""

    def __init__(self, bus: Bus, node_id: str, local: LocalModels) -> None:
        self._bus = bus
        self._node_id = node_id
        self._local = local
        self._known: dict[str, tuple[float, dict[str, Path]]] = {}

    async def serve(self) -> None:
        await self._bus.serve(subjects.VLLM_FILES, self._holder)
        await self._bus.serve(subjects.vllm_subject("files", self._node_id), self._piece)

    async def serve_accounts(self) -> None:
        """Hosts with an account of their own too."""
        await self._bus.subscribe_family("compute.node.*.files", self._asked_from_outside)

    async def _holder(self, body: Message) -> Holder | None:
        """The listing; silence when the model is not here, so that the first answer is a good one."""
        ask = FilesAsk.model_validate(body)
        if ask.path is not None:
            return None  # a host's own question to others, which it hears too
        return await asyncio.to_thread(self._listing, ask.model_name)

    async def _asked_from_outside(self, _subject: str, body: Message) -> object:
        """One answer reaches the asker: nobody speaks but who has the model, or is meant."""
        ask = FilesAsk.model_validate(body)
        if ask.path is not None:
            return await self._piece(body) if ask.node_id == self._node_id else None
        holder = await self._holder(body)
        return holder and holder.model_copy(update={"ask_all": True})

    async def _piece(self, body: Message) -> bytes:
        ask = FilesAsk.model_validate(body)
        return await asyncio.to_thread(self._read, ask)

    def _listing(self, name: str) -> Holder | None:
        files = self._files(name)
        if not files:
            return None
        sizes = {relative: path.stat().st_size for relative, path in files.items()}
        return Holder(node_id=self._node_id, files=sizes)

    def _read(self, ask: FilesAsk) -> bytes:
        path = self._files(ask.model_name).get(ask.path or "")
        if path is None:
            raise not_found("unknown-file", f"{ask.model_name} has no such file on node '{self._node_id}'")
        with path.open("rb") as file:
            return BYTES + os.pread(file.fileno(), ask.length, ask.offset)

    def _files(self, name: str) -> dict[str, Path]:
        """The model's files; looked up once for the many pieces of a transfer."""
        now = time.monotonic()
        until, files = self._known.get(name, (0.0, {}))
        if now < until:
            return files
        try:
            folder = self._local.find(name)
        except Problem:
            return {}
        files = self._local.files(folder) if folder else {}
        if not files:
            return files  # it may be coming just now
        others = [item for item in self._known.items() if item[0] != name][:MAX_KNOWN]
        self._known = {name: (now + KNOWN_SECONDS, files), **dict(others)}
        return files


class Peer:
    """Another node as a source of one model."""

    def __init__(self, bus: Bus, node_id: str, ask_all: bool = False) -> None:
        self._bus = bus
        self._node_id = node_id
        self._subject = subjects.VLLM_FILES if ask_all else subjects.vllm_subject("files", node_id)
        self.origin = f"node:{node_id}"

    async def read(self, listing: Listing, file: RemoteFile, offset: int) -> AsyncGenerator[bytes, None]:
        """The bytes of `file` from `offset` on, a few pieces ahead. Problem when it is gone or changed."""
        ahead: deque[asyncio.Task[bytes]] = deque()
        asked = offset
        try:
            while ahead or asked < file.size:
                while asked < file.size and len(ahead) < WINDOW:
                    length = min(PIECE_BYTES, file.size - asked)
                    ahead.append(asyncio.create_task(self._piece(listing, file, asked, length)))
                    asked += length
                yield await ahead.popleft()
        finally:
            await end_tasks(ahead)

    async def head(self, listing: Listing, file: RemoteFile, most: int) -> bytes:
        """The first `most` bytes of a file, or all of it."""
        short = replace(file, size=min(file.size, most))
        async with aclosing(self.read(listing, short, 0)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def _piece(self, listing: Listing, file: RemoteFile, offset: int, length: int) -> bytes:
        ask = FilesAsk(
            model_name=listing.model_name,
            node_id=self._node_id,
            path=file.path,
            offset=offset,
            length=length,
        )
        try:
            reply = await self._bus.client.request(self._subject, wire_json.dump(ask), timeout=PIECE_SECONDS)
        except (nats.errors.Error, TimeoutError) as error:
            raise _gone(self._node_id) from error
        if not reply.data.startswith(BYTES) or len(reply.data) != length + len(BYTES):
            raise _gone(self._node_id)  # a refusal, or a file that changes there
        return bytes(reply.data[len(BYTES) :])


async def holder_of(bus: Bus, node_id: str, model_name: str) -> tuple[Peer, Listing] | None:
    """The node that has the model whole and answers first; none while NATS is away."""
    if not bus.connected:
        return None
    inbox = bus.client.new_inbox()
    ask = wire_json.dump(FilesAsk(model_name=model_name))
    with suppress(TimeoutError, nats.errors.Error):
        answers = await bus.client.subscribe(inbox)
        try:
            await bus.client.publish(subjects.VLLM_FILES, ask, reply=inbox)
            async with asyncio.timeout(WHO_SECONDS):
                async for message in answers.messages:
                    found = _heard(bus, message.data, node_id, model_name)
                    if found:
                        return found
        finally:
            await answers.unsubscribe()
    return None


def _heard(bus: Bus, data: bytes, node_id: str, model_name: str) -> tuple[Peer, Listing] | None:
    try:
        holder = Holder.model_validate(wire_json.parse_object(data))
        files = tuple(remote_file(path, size) for path, size in holder.files.items())
    except (ValidationError, ValueError, Problem):
        log.warning("a node's listing of a model is not usable")
        return None
    if holder.node_id == node_id:
        return None
    origin = f"node:{holder.node_id}"
    return Peer(bus, holder.node_id, holder.ask_all), Listing(model_name, origin, origin, files)


def _gone(node_id: str) -> Problem:
    return unavailable("source-gone", f"node '{node_id}' stopped sending the model")
