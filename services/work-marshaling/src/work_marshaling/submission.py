"""From a submission to an item: its name, its demand, and what ends it before it begins."""

from compute_common.schemas import work
from work_marshaling.events import Record, Submitted
from work_marshaling.items import Demand, Failure, Item

FARTHEST_START_SECONDS = 366 * 86_400.0
MOST_DEMANDS = 10_000


class Demands:
    """One object per demand, however many items ask the same."""

    def __init__(self) -> None:
        self._known: dict[Demand, Demand] = {}

    def of(self, request: work.SubmitRequest) -> Demand:
        return self.shared(demand_of(request))

    def shared(self, demand: Demand) -> Demand:
        if len(self._known) > MOST_DEMANDS:
            self._known.clear()
        return self._known.setdefault(demand, demand)


def demand_of(request: work.SubmitRequest) -> Demand:
    needs = request.requirements
    return Demand(
        work_type=request.work_type,
        model=request.model_name or None,
        requires_gpu=needs.requires_gpu,
        min_tier_rank=needs.min_tier.rank if needs.min_tier else -1,
        min_vram_gb=needs.min_vram_gb or 0.0,
        labels=tuple(sorted(needs.labels.items())),
        node_id=needs.node_id,
    )


def new_item(
    work_id: str, record: Record, request: work.SubmitRequest, mark: bytes | None, demand: Demand
) -> Item:
    return Item(
        work_id=work_id,
        seq=record.seq,
        created=record.time,
        updated=record.time,
        demand=demand,
        priority=request.priority,
        timeout_seconds=request.timeout_seconds,
        max_retries=request.max_retries,
        not_before=request.not_before.timestamp() if request.not_before else 0.0,
        queue_timeout=request.queue_timeout_seconds,
        key=request.idempotency_key,
        fingerprint=mark,
        has_metadata=bool(request.metadata),
    )


def flaw(event: Submitted, item: Item, max_body_bytes: int) -> Failure | None:
    """Why the item can only end as failed: what REST answers with a 4xx, found in the log."""
    if event.size > max_body_bytes:
        reason = f"payload-too-large: {event.size} bytes, at most {max_body_bytes}"
        return Failure("payload-too-large", reason, None, retryable=False)
    if item.not_before - item.created > FARTHEST_START_SECONDS:
        reason = f"not-before-too-far: at most {FARTHEST_START_SECONDS / 86_400:g} days ahead"
        return Failure("not-before-too-far", reason, None, retryable=False)
    return None


def same(item: Item, mark: bytes | None) -> bool:
    """Whether a submission with this fingerprint asks for what the item is."""
    return item.fingerprint is not None and item.fingerprint == mark


def reserved(work_id: str, seq: int | None = None) -> bool:
    """Whether the name is one the log gives: `w-<sequence>` belongs to the message at that sequence alone."""
    number = work_id.removeprefix("w-")
    return work_id.startswith("w-") and number.isdigit() and number != str(seq)
