"""What clients ask of the queue: submit, cancel, run again. Everything goes through the log and back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from compute_common import subjects, wire_json
from compute_common.enums import WorkStatus
from compute_common.ids import new_id
from compute_common.problems import Problem, conflict, invalid, not_found, unavailable
from compute_common.schemas.work import CancelAnswer, SubmitAnswer, SubmitRequest
from work_marshaling import answers, events
from work_marshaling.items import Item
from work_marshaling.submission import FARTHEST_START_SECONDS, reserved, same

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling

APPLY_SECONDS = 5.0
LOOK_UP_SECONDS = 1.0
LATE_START_SECONDS = 300.0


class Intake:
    def __init__(self, service: WorkMarshaling) -> None:
        self._service = service

    async def submit(self, request: SubmitRequest) -> SubmitAnswer:
        """Record the item; the answer is given once the log has it. 409, 413, 429, 503."""
        return (await self.submit_all([request]))[0]

    async def submit_all(self, requests: list[SubmitRequest]) -> list[SubmitAnswer]:
        """All of them or, where one is refused beforehand, none."""
        self._require_ready()
        known = [self._known(request) for request in requests]
        for request, item in zip(requests, known, strict=True):
            if item is None:
                _require_sensible_start(request, time.time())
        bodies = [self._body(request) for request in requests]
        self._require_room(sum(item is None for item in known))
        new = [number for number, item in enumerate(known) if item is None]
        seqs = dict(zip(new, await self._record([bodies[number] for number in new]), strict=True))
        recorded = [
            item or self._read_back(request, seqs[number])
            for number, (request, item) in enumerate(zip(requests, known, strict=True))
        ]
        return [answers.submitted(item, self._warnings(item)) for item in recorded]

    async def cancel(self, work_id: str, reason: str = "cancelled on request") -> CancelAnswer:
        """Cancel unless it has ended; the fold decides a race. 404 for an unknown item."""
        self._require_ready()
        item = await self.look_up(work_id)
        if not item.status.final:
            body = {"work_id": work_id, "attempt": item.attempt, "reason": reason, "v": 1}
            if item.holder:
                body["node_id"] = item.holder
            seq = await self._service.writer.publish(
                subjects.WORK_CANCELLED, wire_json.dump(body), new_id("cancel")
            )
            await self._applied(seq)
        cancelled = item.status is WorkStatus.CANCELLED
        return CancelAnswer(work_id=work_id, cancelled=cancelled, status=item.status)

    async def run_again(self, work_id: str) -> SubmitAnswer:
        """A new item with the body of an ended one, and `metadata.retry_of`."""
        self._require_ready()
        item = await self.look_up(work_id)
        if not item.status.final:
            raise conflict("still-active", f"{work_id} has not ended; cancel it first")
        body = await self._service.bodies.submission(self._service.state, item)
        if body is None:
            raise not_found("unknown-work", f"the submission of {work_id} is no longer in the log")
        request = SubmitRequest.model_validate(body)
        metadata = {**request.metadata, "retry_of": work_id}
        return await self.submit(
            request.model_copy(update={"work_id": None, "idempotency_key": None, "metadata": metadata})
        )

    async def forgive(self, node_id: str) -> bool:
        """Take a node off the blacklist, in the log, so that it stays off after a restart."""
        self._require_ready()
        cooling = self._service.state.blacklist.cooling(time.time())
        if node_id not in {entry[0] for entry in cooling}:
            return False
        body = {"decision": "forgive", "node_id": node_id, "v": 1}
        seq = await self._service.writer.publish(
            subjects.WORK_DECIDED, wire_json.dump(body), new_id("forgive")
        )
        await self._applied(seq)
        return True

    async def look_up(self, work_id: str) -> Item:
        """The item, also when its submission is in the log but was not read yet; 404 otherwise."""
        if work_id not in self._service.state.items:
            await self._service.log.up_to_date(LOOK_UP_SECONDS)
        return self.find(work_id)

    def find(self, work_id: str) -> Item:
        item = self._service.state.items.get(work_id)
        if item is None:
            detail = f"no work item {work_id}; ended items are kept {self._kept_hours():g} hours"
            raise not_found("unknown-work", detail)
        return item

    # --- steps of a submission

    def _known(self, request: SubmitRequest) -> Item | None:
        """The item that this submission repeats; 409 when it asks for something else under the same name."""
        if request.work_id is None and request.idempotency_key is None:
            return None
        state = self._service.state
        item = state.items.get(request.work_id) if request.work_id else None
        if item is None and request.idempotency_key:
            item = state.by_key(request.idempotency_key)
        if item is None:
            if request.work_id and reserved(request.work_id):
                raise invalid("names of the form w-<number> are given by the server; choose another")
            return None
        if not same(item, events.fingerprint(request)):
            raise _other_body(item.work_id)
        return item

    def _body(self, request: SubmitRequest) -> bytes:
        body = wire_json.dump(request.model_dump(mode="json", exclude_defaults=True))
        limit = self._service.settings.work_max_payload_bytes
        if len(body) > limit:
            detail = (
                f"the item has {len(body)} bytes, at most {limit} are accepted; pass large data by reference"
            )
            raise Problem(413, "payload-too-large", detail)
        return body

    async def _record(self, bodies: list[bytes]) -> list[int]:
        """The sequences under which the log has them, once the fold has them, too."""
        if not bodies:
            return []
        seqs = await self._service.writer.publish_all(subjects.WORK_SUBMIT, bodies)
        await self._applied(max(seqs))
        return seqs

    def _read_back(self, request: SubmitRequest, seq: int) -> Item:
        state = self._service.state
        item = state.items.get(request.work_id or f"w-{seq}")
        if item is None and request.idempotency_key:
            item = state.by_key(request.idempotency_key)
        if item is None:
            raise unavailable("work-log-unavailable", "the item could not be read back; try again")
        if item.seq != seq and not same(item, events.fingerprint(request)):
            raise _other_body(item.work_id)
        return item

    async def _applied(self, seq: int) -> None:
        if not await self._service.log.reached(seq, APPLY_SECONDS):
            detail = "recorded, but the log could not be read back in time; ask for its state again"
            raise unavailable("work-log-behind", detail)

    def _warnings(self, item: Item) -> list[str]:
        """What a submitter should know at once: why it cannot start now."""
        if not item.waiting:
            return []
        words = self._service.dispatcher.waiting_for(item, time.time())
        quiet = words is None or words.startswith(("it is being", "all ", "its "))
        return [] if quiet else [f"waits: {words}"]

    def _require_ready(self) -> None:
        if not self._service.is_ready():
            detail = "the work log is not readable now (NATS away, or start-up replay); try again"
            raise unavailable("not-ready", detail)

    def _require_room(self, wanted: int) -> None:
        limit = self._service.settings.work_max_pending
        if wanted and self._service.state.counts[WorkStatus.PENDING] + wanted > limit:
            raise Problem(
                429,
                "queue-full",
                f"{limit} items are pending already; try again later",
                headers={"Retry-After": "5"},
            )

    def _kept_hours(self) -> float:
        return self._service.settings.work_retention_hours


def _require_sensible_start(request: SubmitRequest, now: float) -> None:
    """A start in the past is a mistake (a little of it is clocks), and so is one in a year."""
    if request.not_before is None:
        return
    ahead = request.not_before.timestamp() - now
    if ahead < -LATE_START_SECONDS:
        raise invalid("not_before is in the past; leave it out to start at once")
    if ahead > FARTHEST_START_SECONDS - LATE_START_SECONDS:
        days = FARTHEST_START_SECONDS / 86_400
        raise invalid(f"not_before is too far ahead; at most {days:g} days are accepted")


def _other_body(work_id: str) -> Problem:
    return conflict(
        "different-body", f"{work_id} exists with another body; use another id or send the same body"
    )
