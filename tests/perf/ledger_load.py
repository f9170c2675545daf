"""Reserve and release over raw sockets: a client so light that the server is what is measured.

Run beside the service (`python -m tests.perf.ledger_load PORT CONNECTIONS SECONDS RATE`). RATE 0 is the
closed loop; else that many pairs a second are offered, each timed from when it was due. Prints JSON.
"""

import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, field

BODY = b'{"gpu_indices": [], "required_mb": 1, "owner": "load"}'
RESERVE = (
    b"POST /api/v1/gpu/reserve HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
RELEASE = b"DELETE /api/v1/gpu/reservations/%s HTTP/1.1\r\nHost: l\r\n\r\n"
ID = b'"reservation_id":"'


@dataclass
class Tally:
    """What was seen: seconds of every pair, answers that were not 201 or 204, how late pairs were sent."""

    spans: list[float] = field(default_factory=list)
    errors: int = 0
    lateness: list[float] = field(default_factory=list)


class Connection:
    """One kept connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().find(b"content-length:")
        size = int(head[at + 15 : head.index(b"\r\n", at)]) if at >= 0 else 0
        return int(head[9:12]), await self._reader.readexactly(size) if size else b""

    async def pair(self, tally: Tally, started: float) -> None:
        """Reserve one MiB of RAM and give it back."""
        status, body = await self.ask(RESERVE)
        if status != 201:
            tally.errors += 1
            return
        at = body.index(ID) + len(ID)
        status, _ = await self.ask(RELEASE % body[at : body.index(b'"', at)])
        tally.errors += status != 204
        tally.spans.append(time.perf_counter() - started)

    def close(self) -> None:
        self._writer.close()


async def closed_loop(connections: list[Connection], seconds: float) -> Tally:
    """Every connection its next pair as soon as the last one is done."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def one(connection: Connection) -> None:
        while (now := time.perf_counter()) < end:
            await connection.pair(tally, now)

    await asyncio.gather(*(one(connection) for connection in connections))
    return tally


async def open_loop(connections: list[Connection], seconds: float, rate: float) -> Tally:
    """`rate` pairs a second whatever the server does; a pair waits for a connection on its own time."""
    tally, begin = Tally(), time.perf_counter()
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)

    async def one(due: float) -> None:
        connection = await idle.get()
        await connection.pair(tally, due)
        idle.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * rate)):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tally.lateness.append(time.perf_counter() - due)
            group.create_task(one(due))
    return tally


async def load(port: int, count: int, seconds: float, rate: float) -> dict[str, float]:
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    connections = [Connection(*each) for each in streams]
    await closed_loop(connections, 0.5)  # warm
    gc.disable()
    began = time.perf_counter()
    tally = await (open_loop(connections, seconds, rate) if rate else closed_loop(connections, seconds))
    took = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return {
        "pairs": len(tally.spans),
        "pairs_per_s": len(tally.spans) / took,
        "errors": tally.errors,
        "p50_ms": percentile(tally.spans, 0.5) * 1000,
        "p99_ms": percentile(tally.spans, 0.99) * 1000,
        "max_ms": max(tally.spans) * 1000,
        "send_lateness_p99_ms": percentile(tally.lateness, 0.99) * 1000 if tally.lateness else 0.0,
        "client_cpu_share": time.process_time() / (took + 0.5),
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    import uvloop

    port, count, seconds, rate = (float(word) for word in sys.argv[1:5])
    print(json.dumps(uvloop.run(load(int(port), int(count), seconds, rate))))
