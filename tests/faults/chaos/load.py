"""Work for the cluster under chaos: an open loop of items that do nothing and small real prompts."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import httpx

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.tasks import end_tasks
from tests.faults.model import Known
from tests.faults.real_run import AWAY

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PER_SECOND = 3.0
PROMPTS = 0.2  # of all
TIMEOUT_SECONDS = {"fault": 8, "inference": 20}
TOKENS = 6


class Load:
    """Submissions come when they come, whether earlier ones were answered or not. `accepted` is promised."""

    def __init__(self, seed: int, bus: Bus, bases: Sequence[str]) -> None:
        self._seed, self._bus, self._bases = seed, bus, bases
        self._random = Random(f"load {seed}")  # noqa: S311 - a seed is a run
        self._open: set[asyncio.Task[None]] = set()
        self.kinds: dict[str, str] = {}
        self.accepted: set[str] = set()
        self.answers: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with httpx.AsyncClient(timeout=8) as client:
                while True:
                    await asyncio.sleep(self._random.expovariate(PER_SECOND))
                    task = asyncio.create_task(self._submit(client, len(self.kinds), self._random.random()))
                    self._open.add(task)
                    task.add_done_callback(self._open.discard)
        finally:
            await end_tasks(self._open)

    async def _submit(self, client: httpx.AsyncClient, number: int, draw: float) -> None:
        work_id = f"c{self._seed}-{number}"
        body = self._body(work_id, number, draw)
        with contextlib.suppress(httpx.HTTPError, *AWAY):
            if number % 5 == 0:
                await self._bus.jetstream(5).publish(subjects.WORK_SUBMIT, wire_json.dump(body))
                outcome = "receipt"
            else:
                base = self._bases[number % len(self._bases)]
                outcome = str((await client.post(f"{base}/api/v1/work/submit", json=body)).status_code)
            self.answers[outcome] += 1
            if outcome in ("receipt", "202"):
                self.accepted.add(work_id)
            return
        self.answers["no answer"] += 1

    def _body(self, work_id: str, number: int, draw: float) -> dict[str, Any]:
        body: dict[str, Any] = {"work_id": work_id}
        if draw < PROMPTS:
            self.kinds[work_id] = "inference"
            payload: dict[str, Any] = {"prompt": f"Item {number}: the sea is", "max_tokens": TOKENS}
            body |= {"work_type": "inference", "model_name": MODEL, "payload": payload}
        else:
            self.kinds[work_id] = {0: "flaky", 1: "broken"}.get(number % 20, "ok")
            payload = {"n": number, "kind": self.kinds[work_id], "seconds": draw * 0.2}
            body |= {"work_type": "fault", "payload": payload}
        return body | {"timeout_seconds": TIMEOUT_SECONDS[body["work_type"]]}

    def expected(self) -> dict[str, Sequence[str]]:
        return {work_id: ("failed",) for work_id, kind in self.kinds.items() if kind == "broken"}

    def wrong_results(self, items: Mapping[str, Known]) -> list[str]:
        """Of what completed: a no-op returns its number, a prompt text."""
        found = {name: items[name].result for name in self.accepted if _completed(items.get(name))}
        return [
            f"{name} has the result {result}"
            for name, result in found.items()
            if not self._fits(name, result)
        ]

    def _fits(self, work_id: str, result: Any) -> bool:
        if self.kinds[work_id] == "inference":
            return bool(isinstance(result, dict) and result.get("text"))
        return bool(result == {"n": int(work_id.split("-")[1])})


def _completed(item: Known | None) -> bool:
    return item is not None and item.status == "completed"
