"""The request/reply subjects of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compute_common import subjects
from compute_common.bus import Message
from compute_common.problems import invalid
from compute_common.schemas.work import CancelAnswer, WorkItem, WorkRef, WorkStats
from work_marshaling import answers

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling


async def serve(service: WorkMarshaling) -> None:
    async def cancel(message: Message) -> CancelAnswer:
        ref = _reference(message)
        if ref is None:
            raise invalid("work_id: name the item to cancel")
        return await service.intake.cancel(ref)

    async def status(message: Message) -> WorkItem | WorkStats:
        ref = _reference(message)
        return answers.stats(service.state) if ref is None else await service.queries.one(ref)

    await service.bus.serve(subjects.WORK_CANCEL, cancel, queue=service.name)
    await service.bus.serve(subjects.WORK_STATUS, status, queue=service.name)


def _reference(message: Message) -> str | None:
    """The item that is meant: `work_id` (an answer echoes `request_id`, so that it is not taken for one)."""
    return WorkRef.model_validate(message).work_id
