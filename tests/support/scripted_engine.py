"""An OpenAI-compatible server that does what a script says: so many tokens, late, cut off, refused.

Also a program for benchmarks: `python -m tests.support.scripted_engine PORT TOKENS SECONDS_BETWEEN`.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Ending = Literal["whole", "before-headers", "before-first-byte", "midway"]
HOST = "127.0.0.1"
DONE = b"data: [DONE]\n\n"


@dataclass
class ScriptedEngine:
    """`ending` says how each answer ends, `status` that it is a refusal; the rest is what it has seen."""

    models: tuple[str, ...] = ("tiny",)
    owned_by: str = "vllm"
    tokens: int = 3
    between_seconds: float = 0.0
    first_after_seconds: float = 0.0
    ending: Ending = "whole"
    status: int = 200
    has_health: bool = True
    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)  # of the requests with a body, as they came
    under_way: int = 0
    left_early: int = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["ScriptedEngine"]:
        """Listening until the block ends; then every connection is cut."""
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, HOST, port, backlog=2048)
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
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _version = head.split("\r\n", 1)[0].split(" ")
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.lower().split("\r\n")
                        if "content-length:" in line
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if method == "GET":
                    self._look(path, writer)
                    continue
                self.heads.append(head)
                if not await self._generate(json.loads(body), reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def _look(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            data = [{"id": name, "object": "model", "owned_by": self.owned_by} for name in self.models]
            _send(writer, 200, {"object": "list", "data": data})
        elif path == "/health" and self.has_health:
            _send(writer, 200, {})
        else:
            _send(writer, 404, {"error": "not here"})

    async def _generate(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False when the connection is over."""
        self.bodies.append(body)
        if self.ending == "before-headers":
            return False
        if self.status != 200:
            _send(writer, self.status, {"error": {"message": "the script says no", "code": self.status}})
            return True
        self.under_way += 1
        answer = asyncio.create_task(self._answer(body, writer))
        leaves = asyncio.create_task(reader.read(1))  # nothing more comes before the answer is whole
        try:
            await asyncio.wait({answer, leaves}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self.left_early += 1
                return False
            return answer.result() and not leaves.done()
        finally:
            self.under_way -= 1
            for task in (answer, leaves):
                task.cancel()
            with contextlib.suppress(Exception):
                await asyncio.gather(answer, leaves, return_exceptions=True)

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        if not body.get("stream"):
            await asyncio.sleep(self.first_after_seconds)
            _send(writer, 200, _completion(body, self.tokens))
            return True
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await writer.drain()
        await asyncio.sleep(self.first_after_seconds)
        if self.ending == "before-first-byte":
            return False
        for number in range(self.tokens):
            writer.write(_chunk(_event(body, f"t{number} ")))
            await writer.drain()
            if self.ending == "midway" and number == 0:
                return False
            await asyncio.sleep(self.between_seconds)
        writer.write(_chunk(DONE) + b"0\r\n\r\n")
        await writer.drain()
        return True


def _send(writer: asyncio.StreamWriter, status: int, document: object) -> None:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _event(body: dict[str, Any], text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    document = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _completion(body: dict[str, Any], tokens: int) -> dict[str, Any]:
    text = "".join(f"t{number} " for number in range(tokens))
    message = {"role": "assistant", "content": text}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "text": text, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens},
    }


async def _main(port: int, tokens: int, between_seconds: float) -> None:
    async with ScriptedEngine(tokens=tokens, between_seconds=between_seconds).running(port):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
