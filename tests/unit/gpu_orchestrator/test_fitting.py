"""Which GPUs would take it, and what would fit when none does."""

from gpu_orchestrator.fitting import can_fit
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.orders import Orders
from tests.unit.gpu_orchestrator.ledgers import gpu, host


def test_the_fullest_that_fit_are_taken() -> None:
    devices = host(gpu(0), gpu(1, used_mb=500), gpu(2, used_mb=800))
    assert can_fit(Ledger(), devices, 400, 1, False).gpu_indices == (1,)
    assert can_fit(Ledger(), devices, 400, 2, False).gpu_indices == (0, 1)


def test_a_linked_pair_wins_when_asked_for() -> None:
    devices = host(
        gpu(0, used_mb=500),
        gpu(1, used_mb=400, links=frozenset({3})),
        gpu(2, used_mb=300),
        gpu(3, links=frozenset({1})),
    )
    assert can_fit(Ledger(), devices, 100, 2, False).gpu_indices == (0, 1)
    linked = can_fit(Ledger(), devices, 100, 2, True)
    assert linked.gpu_indices == (1, 3)
    assert "every pair linked" in linked.reason
    assert "without fast links" in can_fit(Ledger(), devices, 100, 3, True).reason


def test_no_fit_says_what_would() -> None:
    answer = can_fit(Ledger(), host(gpu(0), gpu(1), gpu(2), gpu(3)), 1500, 2, False)
    assert not answer.fits
    assert "500 MiB short" in answer.reason
    assert answer.alternatives == (
        {"gpu_count": 2, "required_mb": 1000},
        {"gpu_count": 3, "required_mb": 1000},
    )


def test_without_a_gpu_ram_is_the_alternative() -> None:
    answer = can_fit(Ledger(), host(ram_mb=900), 800, 1, False)
    assert (answer.fits, answer.alternatives) == (False, ({"required_mb": 800, "gpu_count": 0},))
    assert can_fit(Ledger(), host(ram_mb=900), 800, 0, False).fits
    short = can_fit(Ledger(), host(ram_mb=900), 1000, 0, False)
    assert "100 MiB short" in short.reason


def test_a_cordoned_gpu_is_not_counted() -> None:
    assert not can_fit(Ledger(orders=Orders(frozenset(["GPU-0"]))), host(gpu(0), gpu(1)), 100, 2, False).fits
