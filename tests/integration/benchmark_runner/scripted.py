"""An OpenAI-compatible server that does exactly what its script says, on loopback, in this event loop."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Script:
    """`manner`: well, hangs, cut, garbage, endless, refuses, no-usage. Times in seconds."""

    ttft: float = 0.05
    gap: float = 0.01
    manner: str = "well"
    tokenize: bool = True
    strict: bool = False  # refuse fields outside OpenAI's own
    chat: bool = False  # has chat only; its template is four tokens
    one_at_a_time: bool = False
    true_ids: bool = False  # a word has the same token wherever it stands
    key: str | None = None  # without it everything is 401, and the refusal repeats what it was shown
    at_once: int = 0
    most_at_once: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    prompts: list[Any] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)  # the `Authorization` of every request, "" without one
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Script]:
    """The server while the block runs."""

    tasks: set[asyncio.Task[Any]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while await _one(script, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            tasks.discard(task)

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    length = int(next(lengths, b":0").split(b":")[1])
    body = json.loads(await reader.readexactly(length) or b"{}")
    shown = next((x[15:] for x in head.decode().split("\r\n") if x.startswith("Authorization: ")), "")
    if not head.startswith(b"GET "):  # what is only looked up needs no key
        script.shown.add(shown)
    if script.key is not None and shown != f"Bearer {script.key}":
        await _answer(writer, 401, {"error": {"message": f"no good: {shown}"}})
        return True
    if b"/tokenize " in head:
        words = body.get("content", "").split()
        ids = [sum(word.encode()) for word in words] if script.true_ids else list(range(len(words)))
        await _answer(writer, 200 if script.tokenize else 404, {"tokens": ids})
        return True
    if head.startswith(b"GET ") or (b"/chat/" in head) != script.chat:
        await _answer(writer, 404, {"error": {"message": "no such route"}})
        return True
    if script.manner == "refuses" or (script.strict and "ignore_eos" in body):
        await _answer(writer, 400, {"error": {"message": "no"}})
        return True
    script.at_once += 1
    script.most_at_once = max(script.most_at_once, script.at_once)
    try:
        if not script.one_at_a_time:
            return await _stream(script, body, writer)
        async with script.turn:
            return await _stream(script, body, writer)
    finally:
        script.at_once -= 1


async def _answer(writer: asyncio.StreamWriter, status: int, body: object) -> None:
    data = json.dumps(body).encode()
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data))
    await writer.drain()


async def _stream(script: Script, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
    prompt = body["messages"][0]["content"] if script.chat else body["prompt"]
    script.prompts.append(prompt)
    prompt_tokens = len(prompt) if isinstance(prompt, list) else 2 * len(prompt.split())
    text = b'"delta":{"content":"x "}' if script.chat else b'"text":"x "'
    start = asyncio.get_running_loop().time()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    await writer.drain()
    tokens = 10**9 if script.manner == "endless" else body["max_tokens"]
    for number in range(tokens):
        if script.manner == "hangs":
            await asyncio.sleep(3600)
        due = start + script.ttft + number * script.gap
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        if script.manner == "garbage":
            await _event(writer, b"data: {not json\n\n")
            return False
        if script.manner == "cut" and number == 3:
            return False
        await _event(writer, b'data: {"choices":[{' + text + b',"finish_reason":null}]}\n\n')
    await _event(writer, b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n')
    if script.manner != "no-usage":
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": body["max_tokens"]}
        await _event(writer, b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
    await _event(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _event(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()
