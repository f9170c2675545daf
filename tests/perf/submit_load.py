"""Submissions over raw sockets: a client so light that the server is what is measured.

Run beside the service (`python -m tests.perf.submit_load PORT CONNECTIONS SECONDS BATCH`). BATCH 1 is the
single route, else the batch route with so many items. Prints items per second.
"""

import asyncio
import json
import sys
import time

from tests.perf.ledger_load import Connection

ITEM = {
    "work_type": "waits",
    "model_name": "llama-3-70b",
    "payload": {"prompt": "Explain NATS in a sentence."},
}


def request(batch: int) -> bytes:
    path = "submit" if batch == 1 else "submit-batch"
    body = json.dumps(ITEM if batch == 1 else {"items": [ITEM] * batch}).encode()
    head = f"POST /api/v1/work/{path} HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def load(port: int, count: int, seconds: float, batch: int) -> float:
    """The closed loop: every connection its next request as soon as the last one is answered."""
    ask, answered = request(batch), 0
    end = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal answered
        connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
        while time.perf_counter() < end:
            status, body = await connection.ask(ask)
            assert status == 202, body
            answered += batch
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return answered / (time.perf_counter() - began)


if __name__ == "__main__":
    import uvloop

    port, count, seconds, batch = (float(word) for word in sys.argv[1:5])
    print(f"{uvloop.run(load(int(port), int(count), seconds, int(batch))):.0f}")
