"""One seeded run with real processes: load, faults at step boundaries, healing, judgement."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import httpx
import nats.errors
from nats.js.errors import Error as JetStreamError

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.problems import Problem
from tests.faults.hostile import forged, garbage
from tests.faults.model import FINAL
from tests.faults.rig import Rig
from tests.support import waiting

STEPS = ("submit", "decided", "assigned", "completed", "progress", "retried")
STEP_SECONDS = 2.0
SETTLE_SECONDS = 60.0
TIMEOUT_SECONDS = 3
EXPECTED = {"broken": ("failed",), "cancelled": ("cancelled", "completed")}
AWAY = (nats.errors.Error, JetStreamError, Problem, OSError, TimeoutError)


class RealRun:
    """`complaints` is empty when every promise was kept; `faults` says what was done, in order."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig, self.seed = rig, seed
        self.random = Random(seed)  # noqa: S311  (a seed is a run)
        self.kinds: dict[str, str] = {}
        self.accepted: set[str] = set()
        self.faults: list[str] = []
        self.complaints: list[str] = []
        self.seconds = 0.0

    async def play(self) -> "RealRun":
        began = time.monotonic()
        acts = self._acts()
        names = self.random.choices(list(acts), [weight for weight, _ in acts.values()], k=2)
        plan = [(name, self.random.choice(STEPS), self.random.randint(1, 6)) for name in names]
        loading = asyncio.create_task(self._load())
        for name, verb, further in plan:
            await self.rig.step(verb, further, STEP_SECONDS)
            self.faults.append(f"{name} at {verb} {further}")
            await acts[name][1]()
        await loading
        await self._judge()
        self.seconds = time.monotonic() - began
        return self

    # --- load

    async def _load(self) -> None:
        random = self.random
        await asyncio.gather(*(self._submit(n, random.random() * 2.5, random.random()) for n in range(24)))

    async def _submit(self, number: int, after: float, draw: float) -> None:
        work_id = f"s{self.seed}-{number}"
        kind = {0: "broken", 1: "flaky", 2: "flaky", 3: "cancelled"}.get(number, "ok")
        self.kinds[work_id] = kind
        await asyncio.sleep(after)
        payload = {"n": number, "kind": kind, "seconds": 1.3 if draw < 0.1 else draw * 0.3}
        body: dict[str, Any] = {"work_id": work_id, "work_type": "fault", "payload": payload}
        body["timeout_seconds"] = TIMEOUT_SECONDS
        base = self.rig.marshalers[number % 2].base
        with contextlib.suppress(httpx.HTTPError, *AWAY):
            if number % 3 == 0:
                js = self.rig.bus.jetstream(2)
                await js.publish(subjects.WORK_SUBMIT, wire_json.dump(body))
                self.accepted.add(work_id)
            elif (await self.rig.client.post(f"{base}/api/v1/work/submit", json=body)).status_code == 202:
                self.accepted.add(work_id)
            if kind == "cancelled":
                await self.rig.client.delete(f"{base}/api/v1/work/{work_id}")

    # --- faults

    def _acts(self) -> dict[str, tuple[int, Callable[[], Awaitable[None]]]]:
        return {
            "kill the leader": (4, self._kill_leader),
            "stop the leader": (1, self._stop_leader),
            "kill a standby": (1, self._kill_standby),
            "kill NATS": (4, self._kill_nats),
            "kill a node": (4, self._kill_node),
            "stop a node": (2, self._stop_node),
            "end a node": (2, self._end_node),
            "cut a node off": (3, self._cut),
            "delay a node": (2, self._delay),
            "hostile client": (4, self._hostile),
        }

    async def _kill_leader(self) -> None:
        leader = await self.rig.leader() or self.rig.marshalers[0]
        await leader.end(signal.SIGKILL)
        await asyncio.sleep(self.random.random())
        await leader.start()

    async def _stop_leader(self) -> None:
        leader = await self.rig.leader() or self.rig.marshalers[0]
        leader.send(signal.SIGSTOP)
        await asyncio.sleep(6.5)
        leader.send(signal.SIGCONT)

    async def _kill_standby(self) -> None:
        leader = await self.rig.leader()
        standby = next(each for each in self.rig.marshalers if each is not leader)
        await standby.end(signal.SIGKILL)
        await asyncio.sleep(self.random.random())
        await standby.start()

    async def _kill_nats(self) -> None:
        self.rig.nats.stop(kill=True)
        await asyncio.sleep(self.random.random())
        await asyncio.to_thread(self.rig.nats.start)

    async def _kill_node(self) -> None:
        node = self.random.choice(self.rig.nodes)
        await node.end(signal.SIGKILL)
        await asyncio.sleep(self.random.random())
        await node.start()

    async def _stop_node(self) -> None:
        """Past its lease: the items' time is over before it wakes up."""
        node = self.random.choice(self.rig.nodes)
        node.send(signal.SIGSTOP)
        await asyncio.sleep(TIMEOUT_SECONDS + self.random.random())
        node.send(signal.SIGCONT)

    async def _end_node(self) -> None:
        node = self.random.choice(self.rig.nodes)
        await node.end(signal.SIGTERM)
        await node.start()

    async def _cut(self) -> None:
        await self.rig.proxy.cut(self.random.random() * 2)

    async def _delay(self) -> None:
        self.rig.proxy.delay_seconds = 0.05 + self.random.random() * 0.4
        await asyncio.sleep(2.0)
        self.rig.proxy.delay_seconds = 0.0

    async def _hostile(self) -> None:
        """Forged messages, garbage, and what was said before once more and in another order."""
        ids = list(self.kinds)
        messages: list[tuple[str, Any]] = [forged(self.random, self.random.choice(ids)) for _ in range(20)]
        messages += [garbage(self.random) for _ in range(5)]
        old = [each for each in self.rig.seen if each[0] != subjects.WORK_ASSIGNED]
        messages += self.random.sample(old, min(30, len(old)))
        self.random.shuffle(messages)
        with contextlib.suppress(*AWAY):
            await _publish(self.rig.bus, messages)

    # --- the end

    async def _judge(self) -> None:
        """Once everything has ended; what has not by then is a complaint."""
        mine = f"s{self.seed}-"

        async def ended() -> bool:
            if not await self.rig.idle():
                return False
            try:
                await self.rig.read_log()
            except AWAY:
                return False
            items = self.rig.history.model.items
            return all(item.status in FINAL for name, item in items.items() if name.startswith(mine))

        with contextlib.suppress(TimeoutError):
            await waiting.until(ended, SETTLE_SECONDS)
        expected = {name: EXPECTED[kind] for name, kind in self.kinds.items() if kind in EXPECTED}
        found = self.rig.history.complaints(self.accepted, self.rig.effects(), expected)
        self.complaints = [each for each in found if each not in self.rig.told] + self._wrong_results()
        self.rig.told.update(found)

    def _wrong_results(self) -> list[str]:
        items = self.rig.history.model.items
        return [
            f"{work_id} has the result {items[work_id].result}"
            for work_id in self.accepted
            if work_id in items
            and items[work_id].status == "completed"
            and items[work_id].result != {"n": int(work_id.split("-")[1])}
        ]


async def _publish(bus: Bus, messages: list[tuple[str, Any]]) -> None:
    for subject, body in messages:
        await bus.client.publish(subject, body if isinstance(body, bytes) else wire_json.dump(body))
    await bus.flush()
