"""An OpenAI-compatible server with a known time to the first token and gap: `python -m … PORT TTFT GAP`.

It keeps a log of when it really wrote, so that the truth is known also where this machine was busy:
`GET /truth` gives it, milliseconds from the arrival of a request's last byte, and begins a new log.
"""

import asyncio
import json
import sys
import time
from typing import Any, cast

KIND = b'data: {"id":"cmpl-1","object":"text_completion",'
EVENT = KIND + b'"choices":[{"index":0,"text":"word ","finish_reason":null}],"usage":null}\n\n'
LAST = KIND + b'"choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SPIN_SECONDS = 0.001


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Truth:
    """When tokens were written."""

    def __init__(self) -> None:
        self.ttfts: list[float] = []
        self.gaps: list[float] = []

    def take(self) -> dict[str, list[float]]:
        taken = {"ttft_ms": self.ttfts, "itl_ms": self.gaps}
        self.ttfts, self.gaps = [], []
        return taken


class Server(asyncio.Protocol):
    """One connection. A request's arrival is noted at once and everything else done in the loop's next round,
    so that reading one of many requests does not make the next one look late."""

    def __init__(self, pace: tuple[float, float], truth: Truth) -> None:
        self._ttft, self._gap = pace
        self._truth = truth
        self._buffer = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        arrived = time.perf_counter()
        self._buffer += data
        asyncio.get_running_loop().call_soon(self._request, arrived)

    def _request(self, arrived: float) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")), 0)
        if not found or len(rest) < length:
            return
        self._buffer = b""
        body = json.loads(rest) if length else {}
        if head.startswith(b"POST /v1/completions"):
            task = asyncio.create_task(self._answer(body, arrived))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        words = str(body.get("content", "")).split()
        plain = {"tokens": list(range(len(words)))} if b"/tokenize" in head else self._truth.take()
        data = json.dumps(plain).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))

    async def _answer(self, body: dict[str, Any], arrived: float) -> None:
        tokens, prompt = body["max_tokens"], body["prompt"]
        before = 0.0
        for number in range(tokens):
            due = arrived + self._ttft + number * self._gap
            while (left := due - time.perf_counter()) > 0:  # noqa: ASYNC110  (no event tells the time)
                await asyncio.sleep(left - SPIN_SECONDS if left > SPIN_SECONDS else 0)
            self._transport.write((b"" if number else HEAD) + chunked(EVENT))
            now = time.perf_counter()
            if number:
                self._truth.gaps.append((now - before) * 1000)
            else:
                self._truth.ttfts.append((now - arrived) * 1000)
            before = now
        count = len(prompt) if isinstance(prompt, list) else len(prompt.split())
        usage = json.dumps({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": tokens}})
        end = chunked(LAST) + chunked(f"data: {usage}\n\n".encode()) + chunked(b"data: [DONE]\n\n")
        self._transport.write(end + b"0\r\n\r\n")


async def serve(port: int, pace: tuple[float, float]) -> None:
    truth = Truth()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(pace, truth), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), (float(sys.argv[2]), float(sys.argv[3]))))
