"""Asking the queue about an assignment that only its epoch stands against.

Anybody on a shared NATS account can say a high epoch, and so shut the true leader out. A low epoch is
therefore a reason to ask, not to refuse: what the queue says of the item counts. An answer that is behind
(a standby's, say) is asked for again; none, or another holder, is a no.
"""

import asyncio

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.problems import Problem
from compute_common.schemas.work import Assignment

QUESTIONS = 32  # under way at a time: whoever floods the subject gets no more of them
TRIES = 3
ANSWER_SECONDS = 2.0
PAUSE_SECONDS = 0.3


class Confirmation:
    """One per worker."""

    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id
        self._asking: set[tuple[str, int]] = set()

    async def holds(self, item: Assignment) -> bool:
        """Whether the queue says that this node holds this attempt. Never raises."""
        key = (item.work_id, item.attempt)
        if key in self._asking or len(self._asking) >= QUESTIONS:
            return False
        self._asking.add(key)
        try:
            return await self._ask(item)
        finally:
            self._asking.discard(key)

    async def _ask(self, item: Assignment) -> bool:
        for turn in range(TRIES):
            await asyncio.sleep(turn * PAUSE_SECONDS)
            try:
                said = await self._bus.request(
                    subjects.WORK_STATUS, {"work_id": item.work_id}, ANSWER_SECONDS
                )
            except Problem:
                return False
            if self._agrees(said, item):
                return True
            if not _may_be_behind(said, item.attempt):
                return False
        return False

    def _agrees(self, said: Message, item: Assignment) -> bool:
        held = (said.get("status"), said.get("assigned_node"), said.get("attempt"))
        return held == ("assigned", self._node_id, item.attempt)


def _may_be_behind(said: Message, attempt: int) -> bool:
    known = said.get("attempt")
    return said.get("status") in ("pending", "assigned") and isinstance(known, int) and known < attempt
