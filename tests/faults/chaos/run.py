"""One seeded run of the whole cluster: work flows, faults strike, everything heals, the verdict."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import psutil

from compute_common.tasks import end_tasks, every
from tests.faults.chaos import verdict
from tests.faults.chaos.cluster import Cluster
from tests.faults.chaos.load import MODEL, Load
from tests.faults.chaos.plan import Fault, plan
from tests.faults.verdict import History

READY_SECONDS = 120.0
DRAIN_SECONDS = 60.0
LEAK_SECONDS = 30.0
TIED = {"model_name": MODEL, "max_model_len": 512, "max_num_seqs": 2}
POLL_SECONDS = 0.5
READ_SECONDS = 2.0  # the log is purged behind what ended: it is read as it grows


class ChaosRun:
    """`complaints`: none when every promise was kept. `healed_seconds` count from the end of the faults."""

    def __init__(self, own: Cluster, seed: int, seconds: float, gap_seconds: float) -> None:
        self._own = own
        self.faults = plan(seed, seconds, gap_seconds)
        self.missed: list[Fault] = []
        bases = [url for name, url in own.urls.items() if name.startswith("marshaler")]
        self.load = Load(seed, own.bus, bases)
        self.history = History()
        self._instances = len(own.machines) + 1
        self.healed_seconds = 0.0
        self.complaints: list[str] = []

    async def play(self) -> None:
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            await self._deploy(client)
            loading = asyncio.create_task(self.load.run())
            reading = asyncio.create_task(every(READ_SECONDS, self._read_on), name="history")
            await self._trouble()
            over = time.monotonic()
            self.complaints = await self._until(lambda: self._unhealthy(client), READY_SECONDS)
            self.healed_seconds = time.monotonic() - over
            await end_tasks([loading, reading])
            self.complaints += await self._until(self._unfinished, DRAIN_SECONDS)
            self.complaints += await self._until(lambda: verdict.leaks(self._own, client), LEAK_SECONDS)
            self.complaints += verdict.complaints(self._own, self.load, self.history)

    async def _unhealthy(self, client: httpx.AsyncClient) -> list[str]:
        return await verdict.unhealthy(self._own, client, self._instances)

    async def _read_on(self) -> None:
        await verdict.read_on(self._own, self.history)

    async def _unfinished(self) -> list[str]:
        return await verdict.unfinished(self._own, self.load, self.history)

    async def _deploy(self, client: httpx.AsyncClient) -> None:
        """An instance tied to each host, and one that moves when its host is lost."""
        wrong = await self._until(lambda: verdict.unhealthy(self._own, client, 0), READY_SECONDS)
        assert not wrong, wrong
        wanted = [
            {**TIED, "instance_name": f"at-{each.node_id}", "node_id": each.node_id}
            for each in self._own.machines
        ]
        for body in (*wanted, {**TIED, "instance_name": "rover"}):
            url = f"{self._own.machines[0].urls['vllm-orchestrator']}/api/v1/vllm/deploy"
            answer = await client.post(url, json=body, timeout=20)
            assert answer.status_code in (200, 202), answer.text
        wrong = await self._until(lambda: self._unhealthy(client), READY_SECONDS)
        assert not wrong, wrong

    async def _until(self, look: Callable[[], Awaitable[list[str]]], seconds: float) -> list[str]:
        """Empty once `look` finds nothing wrong; what it found last after `seconds`."""
        deadline = time.monotonic() + seconds
        while found := await look():
            if time.monotonic() > deadline:
                return found
            await asyncio.sleep(POLL_SECONDS)
        return []

    # --- faults

    async def _trouble(self) -> None:
        """All of them in their time; returns when the last is over and what was stopped goes on."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for fault in self.faults:
                await asyncio.sleep(max(0.0, fault.at - (time.monotonic() - began)))
                tasks.create_task(self._strike(fault))

    async def _strike(self, fault: Fault) -> None:
        machine, _, part = fault.target.partition("/")
        if part == "link":
            place = self._own.machines[int(machine.split()[1])].place
            await place.cut()
            await asyncio.sleep(fault.seconds)
            await place.mend()
        elif part in ("clock", "disk"):
            await self._bend(machine, part, fault)
        else:
            await self._hit(fault)

    async def _bend(self, machine: str, part: str, fault: Fault) -> None:
        """Where two overlap on one machine, the later one counts and the earlier one's end ends both."""
        if not self._own.bent.usable:
            self.missed.append(fault)
            return
        bend = partial(self._own.bent.bend, machine)
        bend(shift_seconds=fault.by) if part == "clock" else bend(sync_seconds=fault.by)
        await asyncio.sleep(fault.seconds)
        bend()

    async def _hit(self, fault: Fault) -> None:
        process = await asyncio.to_thread(self._own.process, fault.target)
        if process is None:  # it is down from an earlier fault
            self.missed.append(fault)
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            if fault.act == "kill":
                process.kill()
                return
            process.suspend()
            await asyncio.sleep(fault.seconds)
            process.resume()
