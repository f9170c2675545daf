"""kill -9 at random moments under concurrent clients: what was answered is what is there afterwards."""

import asyncio
import random
from pathlib import Path

import httpx

from tests.integration.gpu_orchestrator.processes import Forks, running
from tests.support.ports import free_port
from tests.support.waiting import until

ROUNDS = 20
CLIENTS = 8
BODY = {"gpu_indices": [], "required_mb": 1, "timeout_seconds": 3600}


class Promises:
    """What the clients were told; asked for and not answered is neither promised nor ended."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.ending: set[str] = set()  # a release was asked for and not answered
        self.ended: set[str] = set()
        self.unanswered: set[str] = set()  # idempotency keys whose reservation may or may not exist
        self.serial = 0
        self.answers = 0

    async def client(self, url: str, dice: random.Random) -> None:
        """Reserve and release until the service dies under it."""
        try:
            async with httpx.AsyncClient(timeout=10) as http:
                while True:
                    if self.held and dice.random() < 0.45:
                        await self.release(http, url, dice.choice(sorted(self.held)))
                    else:
                        await self.reserve(http, url)
        except httpx.TransportError:
            return

    async def reserve(self, http: httpx.AsyncClient, url: str) -> None:
        self.serial += 1
        key = f"key-{self.serial}"
        self.unanswered.add(key)
        answer = await http.post(f"{url}/reserve", json={**BODY, "idempotency_key": key, "owner": key})
        assert answer.status_code == 201, answer.text
        self.answers += 1
        self.unanswered.discard(key)
        self.held.add(answer.json()["reservation_id"])

    async def release(self, http: httpx.AsyncClient, url: str, reservation_id: str) -> None:
        self.held.discard(reservation_id)
        self.ending.add(reservation_id)
        answer = await http.delete(f"{url}/reservations/{reservation_id}")
        assert answer.status_code == 204, answer.text
        self.answers += 1
        self.ending.discard(reservation_id)
        self.ended.add(reservation_id)

    async def compare(self, url: str) -> None:
        """Every promise is there, every ended one gone; what was not answered is settled now."""
        found: dict[str, str] = {}
        cursor: str | None = None
        async with httpx.AsyncClient(timeout=10) as http:
            while True:
                params = {"limit": 1000} | ({"cursor": cursor} if cursor else {})
                page = (await http.get(f"{url}/reservations", params=params)).json()
                found |= {r["reservation_id"]: r["owner"] for r in page["reservations"]}
                cursor = page["next_cursor"]
                if cursor is None:
                    break
        there = set(found)
        assert self.held - there == set(), "promised and lost"
        assert self.ended & there == set(), "released and back"
        surplus = there - self.held - self.ending
        assert {found[each] for each in surplus} <= self.unanswered, "there, and nobody asked for it"
        self.held |= surplus | (self.ending & there)
        self.ended |= self.ending - there
        self.ending.clear()
        self.unanswered.clear()


async def test_twenty_kills_lose_no_promise_and_bring_nothing_back(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/gpu"
    dice = random.Random(4)  # noqa: S311  (a seed, no secret)
    told = Promises()
    forks = Forks()
    for _ in range(ROUNDS):
        process = await asyncio.to_thread(forks.start, tmp_path, port)
        try:
            await told.compare(url)
            clients = [asyncio.create_task(told.client(url, dice)) for _ in range(CLIENTS)]
            enough = told.answers + dice.randint(1, 60)
            await until(lambda: told.answers >= enough, 30)  # noqa: B023  (awaited at once)
            await asyncio.sleep(dice.uniform(0, 0.01))  # in the middle of whatever is under way
        finally:
            process.kill()
            process.join(10)
        await asyncio.gather(*clients)
    with running(tmp_path, port):
        await told.compare(url)
    assert min(len(told.held), len(told.ended)) > ROUNDS
