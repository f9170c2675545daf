"""Whose decisions count.

The leader's every decision is a compare-and-set on the decided subject: the server refuses it when anybody
decided since, so a leader that stood still cannot decide over its successor's head. The log shows which
messages were such; once one has claimed the lead, no other message decides anything.
"""

from dataclasses import dataclass

from work_marshaling.events import Decided, Record

CLOCK_SECONDS = 86_400  # how far ahead of the log's clock a claim without compare-and-set may put its epoch


@dataclass(slots=True)
class Leadership:
    """`epoch` only grows. `guarded`: the lead was claimed by compare-and-set. `decided_seq`: the last."""

    epoch: int = 0
    leader: str = ""
    guarded: bool = False
    decided_seq: int = 0

    def claim(self, record: Record, event: Decided) -> str | None:
        """Take the lead; else why not. Its epoch is the log's to give, so that nobody can exhaust them."""
        if record.follows is None:
            return self._claim_of_old(record, event)
        self.epoch = max(self.epoch + 1, int(record.time))
        self.leader, self.guarded = event.by, True
        return None

    def _claim_of_old(self, record: Record, event: Decided) -> str | None:
        """Older logs: a claim named its epoch, and was not compared."""
        if self.guarded:
            return "forged-decision"
        if not self.epoch < event.epoch <= max(self.epoch + 1, int(record.time) + CLOCK_SECONDS):
            return "stale-epoch"
        self.epoch, self.leader = event.epoch, event.by
        return None

    def refusal(self, record: Record, event: Decided) -> str | None:
        """Why a decision does not count; None when it is the leader's."""
        if not self.guarded or record.follows is None:
            return "forged-decision"
        if event.epoch != self.epoch:
            return "stale-epoch"
        return None if event.by == self.leader else "forged-decision"
