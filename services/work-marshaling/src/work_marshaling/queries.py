"""Reading the queue: one item with what only the log has, lists, statistics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compute_common.enums import WorkStatus
from compute_common.problems import Problem, invalid
from compute_common.schemas.work import WorkItem, WorkList
from work_marshaling import answers
from work_marshaling.items import Item

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling


@dataclass(frozen=True, slots=True)
class Filter:
    statuses: frozenset[WorkStatus] = frozenset()
    work_type: str | None = None
    model_name: str | None = None
    node_id: str | None = None
    set_aside: bool | None = None

    def passes(self, item: Item) -> bool:
        """Names compare ignoring case; a node matches as holder or as the last one that had the item."""
        if self.statuses and item.status not in self.statuses:
            return False
        if self.set_aside not in (None, item.poison):
            return False
        if self.work_type is not None and item.demand.work_type.lower() != self.work_type.lower():
            return False
        if self.model_name is not None and (item.demand.model or "").lower() != self.model_name.lower():
            return False
        return self.node_id is None or item.last_node == self.node_id


class Queries:
    def __init__(self, service: WorkMarshaling) -> None:
        self._service = service

    async def one(self, work_id: str, wait_seconds: float = 0.0) -> WorkItem:
        """The whole item; with `wait_seconds` as soon as it has ended, at the latest then."""
        item = await self._service.intake.look_up(work_id)
        if wait_seconds > 0 and not item.status.final:
            await self._service.feed.final(work_id, wait_seconds)
            item = self._service.intake.find(work_id)
        result, progress, metadata = await asyncio.gather(
            self._service.results.read(item),
            self._progress(item),
            self._metadata(item),
        )
        return answers.work_item(
            item,
            self._service.settings.work_retry_max,
            waiting_for=self._service.dispatcher.waiting_for(item, time.time()),
            history=answers.history(item),
            result=result,
            progress=progress,
            metadata=metadata,
        )

    def page(self, wanted: Filter, limit: int, cursor: str | None) -> WorkList:
        """Newest first, without results; `metadata` and `history` only come with a single item."""
        before = _sequence(cursor)
        found: list[Item] = []
        more = False
        for item in self._newest_first(before):
            if wanted.passes(item):
                if len(found) == limit:
                    more = True
                    break
                found.append(item)
        now = time.time()
        words: dict[Any, str | None] = {}
        items = [
            answers.work_item(
                item, self._service.settings.work_retry_max, waiting_for=self._words(item, now, words)
            )
            for item in found
        ]
        return WorkList(
            items=items, count=len(items), next_cursor=str(found[-1].seq) if more and found else None
        )

    def _newest_first(self, before: int | None) -> Iterator[Item]:
        for item in reversed(self._service.state.items.values()):
            if before is None or item.seq < before:
                yield item

    def _words(self, item: Item, now: float, seen: dict[Any, str | None]) -> str | None:
        """`waiting_for`, worked out once per demand."""
        if not item.waiting or item.not_before > now:
            return self._service.dispatcher.waiting_for(item, now)
        if item.demand not in seen:
            seen[item.demand] = self._service.dispatcher.waiting_for(item, now)
        return seen[item.demand]

    async def _progress(self, item: Item) -> Any:
        """None while the log cannot be read: the rest is still true."""
        if item.progress_seq is None:
            return None
        with contextlib.suppress(Problem):
            body = await self._service.bodies.read(item.progress_seq)
            return body.get("progress") if body else None
        return None

    async def _metadata(self, item: Item) -> dict[str, Any]:
        """Empty while the log cannot be read: the rest is still true."""
        if not item.has_metadata:
            return {}
        with contextlib.suppress(Problem):
            body = await self._service.bodies.submission(self._service.state, item)
            metadata = body.get("metadata") if body else None
            return metadata if isinstance(metadata, dict) else {}
        return {}


def _sequence(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
        raise invalid("cursor: pass the `next_cursor` of the answer before")
    return int(cursor)
