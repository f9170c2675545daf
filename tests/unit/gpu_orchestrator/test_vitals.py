"""When a card is not to be trusted with something new."""

import pytest

from gpu_orchestrator.vitals import XID_HOLD_SECONDS, Vitals, Xid, health_of, is_critical


@pytest.mark.parametrize(
    ("vitals", "words"),
    [
        (Vitals(uncorrected_errors=2), "2 uncorrected memory errors"),
        (Vitals(rows_failed=True, uncorrected_errors=2, recovery_action=1), "replace the card"),
        (Vitals(rows_pending=True), "needs a reset"),
        (Vitals(pages_pending=True), "needs a reset"),
        (Vitals(recovery_action=4), "has to be drained and reset"),
        (Vitals(recovery_action=77), "needs a repair"),
    ],
)
def test_what_the_driver_counts(vitals: Vitals, words: str) -> None:
    assert health_of(vitals, None, 0.0).startswith("failing: ")
    assert words in health_of(vitals, None, 0.0)


def test_a_critical_event_counts_for_a_while() -> None:
    xid = Xid(79, at=100.0)
    assert health_of(Vitals(), xid, 100.0 + XID_HOLD_SECONDS - 1) == "failing: Xid 79"
    assert health_of(Vitals(), xid, 100.0 + XID_HOLD_SECONDS) == "ok"


def test_an_event_that_a_program_brought_about_is_not_the_cards() -> None:
    assert not any(is_critical(number) for number in (13, 31, 43, 45))
    assert all(is_critical(number) for number in (48, 62, 64, 74, 79, 95, 119, 999))
