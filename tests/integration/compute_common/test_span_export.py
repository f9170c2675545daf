"""Spans, sent by the real OpenTelemetry SDK to a collector that only listens."""

import asyncio
import gzip
import importlib.util
import os
import sys

import pytest

PROGRAM = """
from compute_common import span_export, tracing
span_export.name_service("work-marshaling")
given = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
with tracing.span("GET /api/v1/stats", given, "server"):
    with tracing.span("inner", tracing.stamped(), "internal"):
        pass
with tracing.span("unsampled", {"traceparent": given["traceparent"][:-1] + "0"}):
    pass
"""


async def test_spans_arrive_at_a_collector_before_the_program_ends() -> None:
    if importlib.util.find_spec("opentelemetry.exporter") is None:
        pytest.skip("compute-common[otel] is not installed")
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in head.splitlines() if line.startswith("content-length"))
        body = await reader.readexactly(int(length.split(":")[1]))
        await arrived.put(gzip.decompress(body) if "content-encoding: gzip" in head else body)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    async with server:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, env=environment)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        sent = await asyncio.wait_for(arrived.get(), 5)
    for word in (b"work-marshaling", b"GET /api/v1/stats", b"inner"):
        assert word in sent
    assert sent.count(bytes.fromhex("0af7651916cd43dd8448eb211c80319c")) == 2
    assert bytes.fromhex("b7ad6b7169203331") in sent
    assert b"unsampled" not in sent
