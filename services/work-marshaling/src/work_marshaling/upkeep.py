"""What the leader does from time to time: snapshots, purging the log, moving what pins its beginning."""

from __future__ import annotations

import asyncio
import time
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import structlog

from compute_common.jetstream import WORK_STREAM
from compute_common.problems import Problem
from compute_common.tasks import end_tasks, every
from work_marshaling.items import Item
from work_marshaling.object_store import FAILURES
from work_marshaling.state import WorkState

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling

log = structlog.get_logger("upkeep")

TICK_SECONDS = 1.0
SHARE = 8  # after a second of work on a snapshot come so many without
QUIET_RECORDS = 200  # fewer than that between two ticks is a good time for a snapshot
BUSY = 5  # else so many times the least: half a second of replay for less than a tenth of the time
STALE_SECONDS = 300.0
MOVES_AT_A_TIME = 100
WASTE = 8  # the older half of the log holds so many times more messages than kept items: move those


class Upkeep:
    def __init__(self, service: WorkMarshaling) -> None:
        self._service = service
        self._settings = service.settings
        self._tasks: list[asyncio.Task[None]] = []
        self._least = service.settings.work_snapshot_records
        self._seen = 0
        self._snapshot_at = time.monotonic()
        self._not_before = 0.0
        self._purged = 0

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(every(self._settings.work_purge_seconds, self._tidy), name="work-log-purge"),
            asyncio.create_task(every(self._tick_seconds(), self._snapshot), name="work-snapshots"),
        ]

    async def stop(self) -> None:
        await end_tasks(self._tasks)

    def reset(self) -> None:
        """The log is another one."""
        self._purged = self._seen = 0

    def _tick_seconds(self) -> float:
        return min(TICK_SECONDS, self._settings.work_purge_seconds)

    # --- snapshots

    async def _snapshot(self) -> None:
        service = self._service
        position = service.state.position
        new, self._seen = position - self._seen, position
        if not service.dispatcher.leading or not self._worth_it(position, new):
            return
        try:
            worked = await service.snapshots.write(service.state, service.log.created)
            self._snapshot_at = time.monotonic()
            self._not_before = self._snapshot_at + SHARE * worked
        except FAILURES as error:
            log.warning("no snapshot could be written", reason=type(error).__name__)

    def _worth_it(self, position: int, new: int) -> bool:
        """Replay is bounded, and writing a snapshot costs little beside the records it saves."""
        if time.monotonic() < self._not_before:
            return False
        behind = position - self._service.snapshots.newest
        enough = max(BUSY * self._least, len(self._service.state.items) // 4)
        quiet = new < QUIET_RECORDS and behind >= self._least // 4
        stale = behind > 0 and time.monotonic() - self._snapshot_at > STALE_SECONDS
        return (behind > 0 and (behind >= enough or quiet or stale)) or self._holds_up_purging()

    def _holds_up_purging(self) -> bool:
        """Whether the log has much before the oldest item that only the older snapshot still needs."""
        return self._service.state.floor() - 1 - self._service.snapshots.older >= self._least

    # --- the beginning of the log

    async def _tidy(self) -> None:
        """Forget old final items, and purge what no item and no snapshot needs."""
        service = self._service
        service.state.expire(time.time())
        if not service.is_ready() or not service.dispatcher.leading:
            return
        try:
            await self._move()
            floor = min(service.state.floor(), service.snapshots.older + 1)
            if floor > self._purged + 1:
                await service.bus.jetstream().purge_stream(WORK_STREAM, seq=floor)
                self._purged = floor
        except FAILURES as error:
            log.warning("the work log could not be purged", reason=type(error).__name__)

    async def _move(self) -> None:
        """Say the submissions of old live items again, where little else keeps the log's older half."""
        for item in pinning(self._service.state, self._settings.work_move_records):
            state = self._service.state
            body = await self._service.bodies.submission(state, item)
            if body is None:
                continue
            decision = _move_of(item, state.body_seq(item), body)
            try:
                await self._service.leader.decide(decision)
            except Problem as problem:
                if problem.status != 413:
                    raise
                log.warning("an item is too large to be moved", work_id=item.work_id)


def pinning(state: WorkState, least_records: int) -> list[Item]:
    """Live items in the older half of the log, when they are few beside the messages they keep there."""
    first = state.floor()
    half = (state.position - first) // 2
    if half < least_records:
        return []
    old = takewhile(lambda item: item.seq <= first + half, state.items.values())
    found: list[Item] = []
    for item in old:
        if state.body_seq(item) > first + half:
            continue
        if item.status.final or (len(found) + 1) * WASTE > half:
            return []
        found.append(item)
    return found[:MOVES_AT_A_TIME]


def _move_of(item: Item, from_seq: int, submission: dict[str, Any]) -> dict[str, Any]:
    return {
        "decision": "move",
        "move": {"work_id": item.work_id, "from_seq": from_seq, "submission": submission},
    }
