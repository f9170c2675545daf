"""A stand-in for the Hugging Face Hub: the parts of its API that a download needs, over a real socket.

It can be gated, cut connections after so many bytes, and hand large files to another host as the Hub does.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

HOST = "127.0.0.1"
REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE_BYTES = 10_000
BLOCK_BYTES = 16_384


@dataclass
class HubStandIn:
    """`models`: id → file name → content; `sizes` overrides what the listing says of a file."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str | None = None
    cut_after_bytes: int | None = None
    cuts_left: int = 0
    block_seconds: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    content_host: "HubStandIn | None" = None
    port: int = 0
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ranges(self, name: str) -> list[str | None]:
        """The Range of every request for a file."""
        return [asked for path, asked, _token in self.asked if path.endswith(name)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator["HubStandIn"]:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = unquote(lines[0].split(" ")[1])
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                token = headers.get("authorization")
                self.asked.append((path, headers.get("range"), token))
                if not await self._answer(path, headers.get("range"), token, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, path: str, span: str | None, token: str | None, writer: asyncio.StreamWriter
    ) -> bool:
        may = self.token is not None and token == f"bearer {self.token}"
        if path.startswith("/api/models/"):
            name = path.removeprefix("/api/models/").split("/revision/")[0]
            if name not in self.models:  # the Hub does not tell strangers what does not exist
                return _refuse(writer, 404 if may else 401, "RepoNotFound")
            return _send(writer, self._listing(name))
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        _revision, _, file = rest.partition("/")
        content = self.models.get(name, {}).get(file)
        if name in self.gated and not may:
            return _refuse(writer, 403 if token else 401, "GatedRepo")
        if content is None:
            return _refuse(writer, 404, "EntryNotFound")
        if self.content_host is not None and len(content) > LARGE_BYTES:
            there = f"{self.content_host.url}{path}"
            writer.write(f"HTTP/1.1 302 X\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode())
            return True
        return await self._content(content, span, writer)

    async def _content(self, content: bytes, span: str | None, writer: asyncio.StreamWriter) -> bool:
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        body = content[start:]
        head = f"HTTP/1.1 {206 if span else 200} X\r\nContent-Length: {len(body)}\r\n"
        if span:
            head += f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}\r\n"
        writer.write((head + "\r\n").encode())
        cut = None
        if self.cut_after_bytes is not None and self.cuts_left > 0 and len(body) > self.cut_after_bytes:
            self.cuts_left -= 1
            cut = self.cut_after_bytes
        for begin in range(0, len(body) if cut is None else cut, BLOCK_BYTES):
            writer.write(body[begin : min(begin + BLOCK_BYTES, cut or len(body))])
            await writer.drain()
            await asyncio.sleep(self.block_seconds)
        return cut is None

    def _listing(self, name: str) -> dict[str, Any]:
        siblings = [self._sibling(path, content) for path, content in self.models[name].items()]
        gated = "auto" if name in self.gated else False
        return {"id": name, "sha": REVISION, "gated": gated, "siblings": siblings}

    def _sibling(self, path: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": path, "size": self.sizes.get(path, len(content)), "blobId": "b"}
        if len(content) > LARGE_BYTES:
            digest = self.hashes.get(path) or hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": entry["size"], "pointerSize": 134}
        return entry


def _send(writer: asyncio.StreamWriter, document: object) -> bool:
    body = json.dumps(document).encode()
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return True


def _refuse(writer: asyncio.StreamWriter, status: int, code: str) -> bool:
    writer.write(f"HTTP/1.1 {status} X\r\nX-Error-Code: {code}\r\nContent-Length: 0\r\n\r\n".encode())
    return True
