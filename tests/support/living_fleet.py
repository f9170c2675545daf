"""Many nodes that behave as the real ones do: they beat, answer when asked to announce, and reconnect.

`python -m tests.support.living_fleet URL NODES CONNECTIONS` runs one until its standard input ends, then
prints when each announcement was sent: a JSON array of seconds of `time.time()`.
"""

import asyncio
import heapq
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from compute_common import subjects, wire_json
from compute_common.bus import RECONNECT_WAIT_SECONDS
from compute_common.schemas.node import Reannounce
from compute_node.presence import ANSWER_DELAY_SECONDS, RECONNECT_SPREAD_SECONDS

STEP_SECONDS = 0.01


class LivingFleet:
    """Its nodes share `connections` connections evenly."""

    def __init__(
        self, url: str, documents: Sequence[dict[str, Any]], connections: int, beat_seconds: float = 5.0
    ) -> None:
        self._url = url
        self._ids = [str(document["node_id"]) for document in documents]
        self._documents = [wire_json.dump(document) for document in documents]
        self._beats = [wire_json.dump({"node_id": node_id}) for node_id in self._ids]
        self._numbers = {node_id: number for number, node_id in enumerate(self._ids)}
        self._beat_seconds = beat_seconds
        self._clients = [Client() for _connection in range(connections)]
        self._due: list[tuple[float, int]] = []  # beats
        self._answers: list[tuple[float, int]] = []
        self._answering: set[int] = set()
        self._rng = random.Random(3)  # noqa: S311 - a fleet, not a secret
        self.announced_at: list[float] = []

    async def start(self) -> None:
        """Connect, announce, and begin to beat."""
        for place, client in enumerate(self._clients):
            await client.connect(
                self._url,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_SECONDS,
                reconnected_cb=self._reconnected(place),
                error_cb=_ignore,
            )
            await client.subscribe(subjects.NODES_REANNOUNCE, cb=self._asked(place))
        await self._clients[0].subscribe("compute.node.*.reannounce", cb=self._asked_by_name)
        now = time.time()
        for number in range(len(self._ids)):
            self._answer_within(number, self._beat_seconds)
            heapq.heappush(self._due, (now + self._rng.uniform(0, self._beat_seconds), number))

    async def run(self) -> None:
        """Live until cancelled."""
        while True:
            now = time.time()
            while self._answers and self._answers[0][0] <= now:
                _when, number = heapq.heappop(self._answers)
                self._answering.discard(number)
                await self._announce(number)
            while self._due and self._due[0][0] <= now:
                when, number = heapq.heappop(self._due)
                heapq.heappush(self._due, (when + self._beat_seconds, number))
                await self._say(number, subjects.NODES_HEARTBEAT, self._beats[number])
            await asyncio.sleep(STEP_SECONDS)

    async def stop(self) -> None:
        for client in self._clients:
            await client.close()

    async def _announce(self, number: int) -> None:
        if await self._say(number, subjects.NODES_ANNOUNCE, self._documents[number]):
            self.announced_at.append(time.time())
            await self._say(number, subjects.NODES_HEARTBEAT, self._beats[number])

    async def _say(self, number: int, subject: str, body: bytes) -> bool:
        client = self._clients[number % len(self._clients)]
        if client.is_connected:
            await client.publish(subject, body)
        return bool(client.is_connected)

    def _answer_within(self, number: int, spread_seconds: float) -> None:
        if number not in self._answering:
            self._answering.add(number)
            heapq.heappush(self._answers, (time.time() + self._rng.uniform(0, spread_seconds), number))

    def _of(self, place: int) -> range:
        return range(place, len(self._ids), len(self._clients))

    def _reconnected(self, place: int) -> Callable[[], Awaitable[None]]:
        async def reconnected() -> None:
            for number in self._of(place):
                self._answer_within(number, RECONNECT_SPREAD_SECONDS)

        return reconnected

    def _asked(self, place: int) -> Callable[[Msg], Awaitable[None]]:
        async def asked(msg: Msg) -> None:
            question = Reannounce.model_validate_json(msg.data)
            numbers = self._of(place)
            if question.node_id != "*":
                number = self._numbers.get(str(question.node_id), -1)
                numbers = range(number, number + 1) if number in numbers else range(0)
            for number in numbers:
                self._answer_within(number, question.spread_seconds)

        return asked

    async def _asked_by_name(self, msg: Msg) -> None:
        self._answer_within(self._numbers[json.loads(msg.data)["node_id"]], ANSWER_DELAY_SECONDS)


async def _ignore(_error: Exception) -> None:
    """The server is away for a while: that is the test."""


async def main(url: str, nodes: int, connections: int) -> None:
    from tests.perf.fleet import fleet  # noqa: PLC0415 - only here

    living = LivingFleet(url, list(fleet(nodes)), connections)
    await living.start()
    running = asyncio.create_task(living.run())
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()
    await living.stop()
    print(json.dumps(living.announced_at))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
