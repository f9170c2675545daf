"""The queue as processes to be killed: NATS, registry, two marshalers, three nodes, one behind a proxy."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from compute_common.bus import Bus
from compute_common.bus_auth import NatsSettings
from compute_common.jetstream import WORK_STREAM
from tests.faults.model import Entry
from tests.faults.proxy import Proxy
from tests.faults.verdict import History
from tests.integration.work_marshaling.processes import Process, role
from tests.support import waiting
from tests.support.nats import NatsServer
from work_marshaling.log_reader import FOLLOWS

SETTINGS = {
    "WORK_RETRY_MAX": "50",
    "WORK_RETRY_DELAY": "0.05",
    "WORK_POISON_NODES": "100",
    "WORK_BLACKLIST_FAILURES": "10000",
    "WORK_SILENCE_SECONDS": "4",
    "WORK_NODES_REFRESH_SECONDS": "1",
    "WORK_SNAPSHOT_RECORDS": "200",
}
NODES = 3
REGISTRY = ("uvicorn", "node_registry.app:app", "--port", "0", "--log-level", "error")


class Program:
    """A Python module as a process that can be started again."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._argv = (sys.executable, "-m", *arguments)
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {**os.environ, "LOG_LEVEL": "ERROR", **self._environment}
        self._process = await asyncio.create_subprocess_exec(*self._argv, env=environment)

    def send(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, number: int = signal.SIGKILL) -> None:
        self.send(signal.SIGCONT)
        self.send(number)
        if self._process is not None:
            await asyncio.wait_for(self._process.wait(), 15)


class Rig:
    """`steps` counts what was seen on the wire, by the subject's verb; `seen` keeps the latest messages."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.nats = NatsServer(home / "nats")
        self.effects_file = home / "effects"
        self.effects_file.touch()
        self.history = History()
        self.steps: Counter[str] = Counter()
        self.seen: deque[tuple[str, bytes]] = deque(maxlen=300)
        self.told: set[str] = set()
        self.client = httpx.AsyncClient(timeout=8)

    async def start(self) -> None:
        self.nats.start()
        url = self.nats.url
        self.bus = Bus(NatsSettings(NATS_URL=url), "rig")
        self.bus.start()
        assert await self.bus.wait_connected(5)
        await self.bus.subscribe_raw("compute.work.>", self._note)
        self.proxy = Proxy(self.nats.port)
        await self.proxy.start()
        self.registry = Program(*REGISTRY, NATS_URL=url, NODE_ID="rig")
        await self.registry.start()
        self.marshalers = [Process(url, name, **SETTINGS) for name in ("a", "b")]
        urls = [url, url, f"nats://127.0.0.1:{self.proxy.port}"]
        self.nodes = [
            Program("tests.faults.worker", urls[n], f"n{n}", str(self.effects_file)) for n in range(NODES)
        ]
        for node in self.nodes:
            await node.start()
        await asyncio.gather(*(each.start() for each in self.marshalers))

    async def stop(self) -> None:
        for process in self.marshalers:
            process.send(signal.SIGCONT)
        programs: list[Process | Program] = [*self.marshalers, *self.nodes, self.registry]
        await asyncio.gather(*(each.end(signal.SIGKILL) for each in programs), return_exceptions=True)
        await self.client.aclose()
        await self.proxy.stop()
        await self.bus.stop()
        self.nats.stop(kill=True)

    async def _note(self, msg: Msg) -> None:
        self.steps[msg.subject.split(".")[2]] += 1
        self.seen.append((msg.subject, msg.data))

    async def step(self, verb: str, further: int, seconds: float) -> None:
        """Return when so many more messages of that verb were seen, or when the time is over."""
        target = self.steps[verb] + further
        with contextlib.suppress(TimeoutError):
            await waiting.until(lambda: self.steps[verb] >= target, seconds)

    async def leader(self) -> Process | None:
        for process in self.marshalers:
            if await role(process) == "leading":
                return process
        return None

    # --- looking back

    def effects(self) -> Counter[tuple[str, int]]:
        lines = (line.split() for line in self.effects_file.read_text().splitlines())
        return Counter((work_id, int(attempt)) for work_id, attempt in lines)

    async def idle(self) -> bool:
        """Whether a marshaler says that nothing is open."""
        for process in self.marshalers:
            with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
                stats = (await self.client.get(f"{process.base}/api/v1/stats")).json()
                return bool(stats["pending"] + stats["assigned"] == 0)
        return False

    async def read_log(self) -> None:
        self.history.read(await entries_after(self.bus, self.history.last_seq))


async def entries_after(bus: Bus, seq: int) -> list[Entry]:
    """The log from there to its end."""
    js = bus.jetstream()
    last = (await js.stream_info(WORK_STREAM)).state.last_seq
    if last <= seq:
        return []
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=seq + 1)
    subscription = await js.subscribe(">", stream=WORK_STREAM, ordered_consumer=True, config=config)
    found: list[Entry] = []
    try:
        while not found or found[-1].seq < last:
            message = await subscription.next_msg(10)
            meta, follows = message.metadata, (message.headers or {}).get(FOLLOWS)
            at = meta.timestamp.timestamp()
            compared = int(follows) if follows else None
            found.append(Entry(meta.sequence.stream, at, message.subject, message.data, compared))
    finally:
        await subscription.unsubscribe()
    return found


@asynccontextmanager
async def rig(home: Path, starting: asyncio.Lock) -> AsyncIterator[Rig]:
    made = Rig(home)
    try:
        async with starting:
            await made.start()
        yield made
    finally:
        await made.stop()
