"""Clients of one host's ledger, and what they hold for certain: a witness against overbooking."""

import json
import random
from collections import Counter
from typing import Protocol

from nats.aio.client import Client

from compute_common import subjects
from tests.perf.ledger_load import Connection

LARGEST_MB = 6_000


class Ledger(Protocol):
    """One client's way to the ledger."""

    async def reserve(self, indices: list[int], mb: int) -> str | None: ...
    async def release(self, reservation_id: str) -> None: ...
    async def close(self) -> None: ...


class ByHttp:
    """Over one kept connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def reserve(self, indices: list[int], mb: int) -> str | None:
        body = json.dumps({"gpu_indices": indices, "required_mb": mb}).encode()
        head = f"POST /api/v1/gpu/reserve HTTP/1.1\r\nHost: l\r\nContent-Length: {len(body)}\r\n"
        status, answer = await self._connection.ask(
            head.encode() + b"Content-Type: application/json\r\n\r\n" + body
        )
        assert status in (201, 409), answer
        return str(json.loads(answer)["reservation_id"]) if status == 201 else None

    async def release(self, reservation_id: str) -> None:
        path = f"/api/v1/gpu/reservations/{reservation_id}"
        status, answer = await self._connection.ask(f"DELETE {path} HTTP/1.1\r\nHost: l\r\n\r\n".encode())
        assert status == 204, answer

    async def close(self) -> None:
        self._connection.close()


class ByNats:
    """By request and reply."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reserve(self, indices: list[int], mb: int) -> str | None:
        answer = await self._ask("reserve", {"gpu_indices": indices, "required_mb": mb})
        assert answer.get("status", 409) == 409, answer
        return answer.get("reservation_id")

    async def release(self, reservation_id: str) -> None:
        assert (await self._ask("release", {"reservation_id": reservation_id}))["state"] == "released"

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, verb: str, body: dict[str, object]) -> dict[str, str]:
        subject = subjects.gpu_subject(verb, "host-a")
        reply = await self._client.request(subject, json.dumps(body).encode(), timeout=30)
        found: dict[str, str] = json.loads(reply.data)
        return found


class TwoCards:
    """What is held for certain: added when an answer came, taken off before the release is sent."""

    def __init__(self, room_mb: dict[int, int]) -> None:
        self.room_mb = room_mb
        self.held: Counter[int] = Counter()
        self.highest: Counter[int] = Counter()
        self.refused = 0

    def take(self, indices: list[int], mb: int) -> None:
        for index in indices:
            self.held[index] += mb
            self.highest[index] = max(self.highest[index], self.held[index])

    def give(self, indices: list[int], mb: int) -> None:
        for index in indices:
            self.held[index] -= mb

    async def use(self, ledger: Ledger, dice: random.Random, operations: int) -> None:
        """Reserve and release at random, in the end release all and leave."""
        mine: list[tuple[str, list[int], int]] = []
        for _ in range(operations):
            if mine and dice.random() < 0.4:
                await self._release(ledger, mine.pop(dice.randrange(len(mine))))
                continue
            indices = dice.choice([[0], [1], [0, 1]])
            mb = dice.randint(1, LARGEST_MB)
            made = await ledger.reserve(indices, mb)
            self.refused += made is None
            if made is not None:
                self.take(indices, mb)
                mine.append((made, indices, mb))
        for each in mine:
            await self._release(ledger, each)
        await ledger.close()

    async def _release(self, ledger: Ledger, entry: tuple[str, list[int], int]) -> None:
        self.give(*entry[1:])
        await ledger.release(entry[0])

    def assert_never_overbooked(self) -> None:
        for index, most in self.highest.items():
            room = self.room_mb[index]
            assert most <= room, f"GPU {index} was overbooked by {most - room} MiB"
            assert most > 0.8 * room, "too little was asked for to prove anything"
