"""Whether a GPU can be trusted with something new: pure, over what its driver counts."""

from dataclasses import dataclass

OK = "ok"
LOST = "lost"
SILENT = "not answering"
UNREADABLE = "memory unreadable"
XID_HOLD_SECONDS = 600.0

# Xids that a program brings about, or that only tell: the card is not to blame. After NVIDIA's Xid catalogue.
_NOT_THE_CARD = frozenset({13, 31, 43, 45, 63, 68, 69, 92, 109, 154})
# NVML_GPU_RECOVERY_ACTION_…; 0 is none
_RECOVERY = {
    1: "needs a reset (its driver says)",
    2: "needs a reboot of this host (its driver says)",
    3: "has to be drained (its driver says)",
    4: "has to be drained and reset (its driver says)",
}


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a driver counts since the card's last reset; 0 also where it does not tell."""

    uncorrected_errors: int = 0
    rows_pending: bool = False
    rows_failed: bool = False
    pages_pending: bool = False
    recovery_action: int = 0


@dataclass(frozen=True, slots=True)
class Xid:
    """A critical event of a card, and when it was told (monotonic seconds)."""

    number: int
    at: float


def is_critical(number: int) -> bool:
    return number not in _NOT_THE_CARD


def health_of(vitals: Vitals, xid: Xid | None, now: float) -> str:
    """`ok`, or why it takes nothing new.

    A critical event counts for ten minutes: drivers before 550 do not tell when its cause is mended.
    """
    if vitals.rows_failed:
        return "failing: a bad memory row could not be remapped, replace the card"
    if vitals.recovery_action:
        return "failing: " + _RECOVERY.get(vitals.recovery_action, "needs a repair (its driver says)")
    if xid is not None and now - xid.at < XID_HOLD_SECONDS:
        return f"failing: Xid {xid.number}"
    if vitals.uncorrected_errors:
        return f"failing: {vitals.uncorrected_errors} uncorrected memory errors since its last reset"
    if vitals.rows_pending or vitals.pages_pending:
        return "failing: needs a reset to take bad memory out of use"
    return OK
