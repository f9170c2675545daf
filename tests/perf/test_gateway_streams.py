"""A thousand chats at once: the gateway is a process of its own between this one and two scripted engines.

Every client reads all tokens; the same load straight to the engines says what the gateway itself costs.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.suite import wait_for

STREAMS = 1000
TOKENS = 20
BETWEEN_SECONDS = 1.0  # 1,000 tokens/s in all
RSS_MIB = 400
ADDED_P99_SECONDS = 5.0
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Stream:
    first_after: float = 0.0
    seconds: float = 0.0
    events: int = 0
    whole: bool = False
    error: str = ""


@contextmanager
def process(argv: list[str], log: Path, **environment: str) -> Iterator[psutil.Process]:
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *argv],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def test_a_thousand_streams_at_once(nats_server: NatsServer, tmp_path: Path) -> None:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        engines = [_engine(stack, tmp_path) for _ in range(2)]
        gateway, gateway_port = _gateway(stack, nats_server, tmp_path)
        for port in engines:
            _attach(gateway_port, port)
        _warm(gateway_port)
        rss_before = gateway.memory_info().rss >> 20
        alone, _ = asyncio.run(_load(engines, gateway))
        cpu_before = gateway.cpu_times()
        through, rss_peak = asyncio.run(_load([gateway_port], gateway))
        cpu_after = gateway.cpu_times()
        wait_for(lambda: gateway.num_fds() < 150)  # neither side's connections stay
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    cpu = (cpu_after.user + cpu_after.system) - (cpu_before.user + cpu_before.system)
    _report(alone, through)
    print(
        f"gateway: RSS {rss_before} MiB before, {rss_peak} MiB at most; {cpu:.1f} CPU seconds for"
        f" {STREAMS * TOKENS} tokens"
    )
    assert [stream.error for stream in through if stream.error or not stream.whole] == []
    assert all(stream.events == TOKENS + 1 for stream in through)
    assert rss_peak < RSS_MIB
    assert _p99(through) - _p99(alone) < ADDED_P99_SECONDS


def _engine(stack: ExitStack, home: Path) -> int:
    port = free_port()
    script = ["tests.support.scripted_engine", str(port), str(TOKENS), str(BETWEEN_SECONDS)]
    stack.enter_context(process(script, home / f"engine-{port}.log"))
    wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"))
    return port


def _gateway(stack: ExitStack, server: NatsServer, home: Path) -> tuple[psutil.Process, int]:
    port = free_port()
    argv = ["uvicorn", "vllm_orchestrator.app:app", "--port", str(port), "--no-access-log", "--ws", "none"]
    environment = {"NATS_URL": server.url, "NODE_ID": "gateway", "COMPUTE_HOME": str(home / "home")}
    started = stack.enter_context(process(argv, home / "gateway.log", **environment, LOG_LEVEL="WARNING"))
    wait_for(lambda: _answers(f"http://127.0.0.1:{port}/readyz"))
    return started, port


def _attach(gateway_port: int, port: int) -> None:
    body = {"endpoint": f"http://127.0.0.1:{port}", "model_name": "tiny", "instance_name": f"engine-{port}"}
    url = f"http://127.0.0.1:{gateway_port}/api/v1/vllm/attach"
    assert httpx.post(url, json=body, timeout=30).is_success


def _warm(port: int) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
    assert httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=60).is_success


async def _load(ports: list[int], gateway: psutil.Process) -> tuple[list[Stream], int]:
    """All streams, started together; the gateway's largest RSS meanwhile, MiB."""
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, gateway.memory_info().rss >> 20)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    streams = await asyncio.gather(*(_stream(ports[number % len(ports)]) for number in range(STREAMS)))
    watching.cancel()
    return list(streams), peak


async def _stream(port: int) -> Stream:
    """One client over a bare socket: a thousand of a real client library would be the bottleneck."""
    seen = Stream()
    started = time.monotonic()
    body = json.dumps({"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer = None
    try:
        async with asyncio.timeout(120):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((head + body).encode())
            status = await reader.readline()
            if b" 200 " not in status:
                seen.error = status.decode("latin-1").strip() or "closed before a status"
                return seen
            while not seen.whole and (line := await reader.readline()):
                if line.startswith(b"data: "):
                    seen.first_after = seen.first_after or time.monotonic() - started
                    seen.events += 1
                    seen.whole = line.startswith(b"data: [DONE]")
    except (OSError, TimeoutError) as error:
        seen.error = repr(error)
    finally:
        seen.seconds = time.monotonic() - started
        if writer is not None:
            writer.close()
    return seen


def _p99(streams: list[Stream]) -> float:
    return sorted(stream.first_after for stream in streams)[int(len(streams) * 0.99)]


def _report(alone: list[Stream], through: list[Stream]) -> None:
    for name, streams in (("straight", alone), ("through the gateway", through)):
        first = sorted(stream.first_after for stream in streams)
        errors = sum(bool(stream.error) or not stream.whole for stream in streams)
        longest = max(stream.seconds for stream in streams)
        print(
            f"\n{name}: {errors} errors; first token p50 {first[len(first) // 2]:.2f} s,"
            f" p99 {_p99(streams):.2f} s; the longest stream {longest:.1f} s"
        )
