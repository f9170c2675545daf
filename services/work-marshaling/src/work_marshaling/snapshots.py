"""Snapshots of the fold in the object store, two in turn: one that does not read costs no more than time."""

import asyncio
import time

import structlog
from nats.js.api import StreamInfo

from compute_common import wire_json
from work_marshaling.kept import Limits
from work_marshaling.object_store import FAILURES, Bucket
from work_marshaling.snapshot import Capture, UnreadableError, restored
from work_marshaling.state import WorkState

log = structlog.get_logger("snapshots")

NAMES = ("fold-0", "fold-1")


class Snapshots:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._positions: dict[str, int] = {}  # of the log that is read now

    @property
    def newest(self) -> int:
        """Up to where a replay may be left out; 0 where there is none."""
        return max(self._positions.values(), default=0)

    @property
    def older(self) -> int:
        """Up to where the log is not needed even if the newest does not read."""
        return min(self._positions.values()) if len(self._positions) == len(NAMES) else 0

    async def write(self, state: WorkState, created: str) -> float:
        """Keep the fold as it is now, others have their turns meanwhile; the seconds of it that were work.

        One of `FAILURES`.
        """
        name = min(NAMES, key=lambda each: self._positions.get(each, 0))
        capture = Capture(state)
        try:
            parts, worked, began = [], 0.0, time.perf_counter()
            for part in capture.parts():
                parts.append(part)
                worked += time.perf_counter() - began
                await asyncio.sleep(0)
                began = time.perf_counter()
        finally:
            capture.end()
        label = wire_json.dump({"created": created, "position": capture.position}).decode()
        await self._bucket.put(name, b"".join(parts), label)
        self._positions[name] = capture.position
        log.info(
            "snapshot written", position=capture.position, parts=len(parts), worked_seconds=round(worked, 3)
        )
        return worked

    async def look(self, info: StreamInfo) -> None:
        """Find out which snapshots there are: another replica may have written them."""
        self._positions = {}
        for name in NAMES:
            position = _position(await self._bucket.description(name), info)
            if position is not None:
                self._positions[name] = position

    async def read(self, info: StreamInfo, limits: Limits) -> WorkState | None:
        """The newest fold that reads and from which the log goes on; None where there is none."""
        try:
            await self.look(info)
            for name in sorted(self._positions, key=lambda each: -self._positions[each]):
                data = await self._bucket.get(name)
                state = await _restore(data, limits) if data else None
                if state is not None:
                    return state
                del self._positions[name]
        except FAILURES as error:
            log.warning("no snapshot can be read; replaying the log", reason=type(error).__name__)
        return None


async def _restore(data: bytes, limits: Limits) -> WorkState | None:
    state: WorkState | None = None
    try:
        for state in restored(data, limits):  # noqa: B007  (the last one is the whole)
            await asyncio.sleep(0)
    except UnreadableError as error:
        log.error("a snapshot does not read", reason=str(error))
        return None
    return state


def _position(label: str | None, info: StreamInfo) -> int | None:
    """The position of a snapshot that is of this very log, and after which nothing is missing in it."""
    try:
        found = wire_json.parse_object((label or "").encode())
    except ValueError:
        return None
    position = found.get("position")
    if found.get("created") != str(info.created) or not isinstance(position, int):
        return None
    return position if info.state.first_seq - 1 <= position <= info.state.last_seq else None
