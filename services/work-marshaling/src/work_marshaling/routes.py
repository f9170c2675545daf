"""The REST routes of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from compute_common.enums import WireEnum, WorkStatus
from compute_common.ids import Identifier
from compute_common.schemas.base import Wire
from compute_common.schemas.work import (
    CancelAnswer,
    SubmitAnswer,
    SubmitBatch,
    SubmitBatchAnswer,
    SubmitRequest,
    WorkItem,
    WorkList,
    WorkStats,
)
from compute_common.shell.routing import Cursor, Limit, new_router
from work_marshaling import answers, subject_list
from work_marshaling.queries import Filter

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling


class StatusWord(WireEnum):
    """A status to filter by; `active` is pending and assigned."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ACTIVE = "active"

    def statuses(self) -> frozenset[WorkStatus]:
        if self is StatusWord.ACTIVE:
            return frozenset({WorkStatus.PENDING, WorkStatus.ASSIGNED})
        return frozenset({WorkStatus(self.value)})


class SubjectList(Wire):
    subjects: list[subject_list.SubjectUse]
    count: int


Wait = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for a final state")]


def router(service: WorkMarshaling) -> APIRouter:
    routes = new_router("work")

    @routes.post("/api/v1/work/submit", status_code=202, response_model=SubmitAnswer)
    async def submit(request: SubmitRequest) -> SubmitAnswer:
        """Put a work item into the queue; answered once the log has it."""
        return await service.intake.submit(request)

    @routes.post("/api/v1/work/submit-batch", status_code=202, response_model=SubmitBatchAnswer)
    async def submit_batch(batch: SubmitBatch) -> SubmitBatchAnswer:
        """Up to 1,000 items at once; where one is refused none is taken."""
        items = await service.intake.submit_all(batch.items)
        return SubmitBatchAnswer(items=items, count=len(items))

    @routes.get("/api/v1/work", response_model=WorkList)
    async def list_work(
        *,
        status: Annotated[list[StatusWord] | None, Query(description="May repeat")] = None,
        work_type: Annotated[str | None, Query(max_length=128)] = None,
        model_name: Annotated[str | None, Query(max_length=512)] = None,
        node_id: Annotated[Identifier | None, Query()] = None,
        set_aside: Annotated[bool | None, Query(description="Items that failed on several nodes")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> WorkList:
        """Items, newest first."""
        statuses = frozenset[WorkStatus]().union(*(word.statuses() for word in status or ()))
        return service.queries.page(
            Filter(statuses, work_type, model_name, node_id, set_aside), limit, cursor
        )

    @routes.get(
        "/api/v1/work/events",
        response_class=StreamingResponse,
        responses={200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}},
    )
    async def events() -> StreamingResponse:
        """Every change of every item, as server-sent events, until the client goes."""
        return StreamingResponse(
            service.feed.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @routes.get("/api/v1/work/{work_id}", response_model=WorkItem)
    async def get_work(work_id: Identifier, wait: Wait = 0) -> WorkItem:
        """One item: history, result, or why it is still waiting; `wait` long-polls for its end."""
        return await service.queries.one(work_id, wait)

    @routes.delete("/api/v1/work/{work_id}", response_model=CancelAnswer)
    async def cancel(work_id: Identifier) -> CancelAnswer:
        """Cancel an item; a node that works on it is told to stop. What has ended stays as it is."""
        return await service.intake.cancel(work_id)

    @routes.post("/api/v1/work/{work_id}/retry", status_code=202, response_model=SubmitAnswer)
    async def run_again(work_id: Identifier) -> SubmitAnswer:
        """Run an ended item again: a new item with `metadata.retry_of`."""
        return await service.intake.run_again(work_id)

    @routes.get("/api/v1/stats", response_model=WorkStats)
    async def stats() -> WorkStats:
        """Counts of the items that are kept, and mean times."""
        return answers.stats(service.state)

    @routes.get("/api/v1/subjects", response_model=SubjectList)
    async def subjects() -> SubjectList:
        """The NATS subjects of this service."""
        return SubjectList(subjects=list(subject_list.SUBJECTS), count=len(subject_list.SUBJECTS))

    return routes
