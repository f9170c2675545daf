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
        gpu(1, used_mb=400, links={3: "nvlink ×4"}),
        gpu(2, used_mb=300),
        gpu(3, links={1: "nvlink ×4"}),
    )
    assert can_fit(Ledger(), devices, 100, 2, False).gpu_indices == (0, 1)
    linked = can_fit(Ledger(), devices, 100, 2, True)
    assert linked.gpu_indices == (1, 3)
    assert "taken because every pair is linked: 1-3 (nvlink ×4)" in linked.reason
    assert linked.linked == ((1, 3),)
    three = can_fit(Ledger(), devices, 100, 3, True)
    assert three.gpu_indices == (0, 1, 3)
    assert "no set has every pair linked" in three.reason
    apart = can_fit(Ledger(), host(gpu(0), gpu(1)), 100, 2, True)
    assert (apart.gpu_indices, apart.linked) == ((0, 1), ())
    assert "without fast links" in apart.reason


def test_no_fit_says_what_would() -> None:
    answer = can_fit(Ledger(), host(gpu(0), gpu(1), gpu(2), gpu(3)), 1500, 2, False)
    assert not answer.fits
    assert "GPU 0 has 1000 MiB, 500 MiB short" in answer.reason
    assert [each["shortfall_mb"] for each in answer.shortfall] == [500, 500, 500, 500]
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


def test_bridged_pairs_are_taken_whole() -> None:
    """Of four cards with two bridges, two that are joined, and never one of each."""
    bridges = {0: 1, 1: 0, 2: 3, 3: 2}
    cards = [gpu(n, used_mb=10 * n, links={peer: "nvlink ×4"}) for n, peer in bridges.items()]
    assert can_fit(Ledger(), host(*cards), 100, 2, True).gpu_indices == (2, 3)
    assert can_fit(Ledger(), host(*cards), 100, 3, True).linked in (((0, 1),), ((2, 3),))


def test_on_a_switch_of_sixteen_every_set_is_linked() -> None:
    peers = dict.fromkeys(range(16), "nvswitch ×18")
    cards = [gpu(n, links={k: v for k, v in peers.items() if k != n}) for n in range(16)]
    assert len(can_fit(Ledger(), host(*cards), 100, 8, True).linked) == 28


def test_slices_do_not_join() -> None:
    card = gpu(0, health="in MIG mode (reserve its slices: 100, 101)")
    slices = [gpu(100 + n, parent="GPU-0", used_mb=n) for n in range(2)]
    assert can_fit(Ledger(), host(card, *slices), 100, 1, False).gpu_indices == (101,)
    two = can_fit(Ledger(), host(card, *slices), 100, 2, False)
    assert not two.fits
    assert "GPU 0 is in MIG mode" in two.reason


def test_a_slice_of_a_cordoned_card_is_not_counted() -> None:
    ledger = Ledger(orders=Orders(cordoned=frozenset({"GPU-0"})))
    assert not can_fit(ledger, host(gpu(0), gpu(100, parent="GPU-0")), 100, 1, False).fits
