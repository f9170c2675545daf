"""The ledger's arithmetic and its refusals."""

from datetime import timedelta

import pytest

from compute_common.problems import Problem
from gpu_orchestrator.devices import balance
from gpu_orchestrator.entries import RAM, Entry, Holder, State
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.orders import Orders
from tests.unit.gpu_orchestrator.ledgers import T0, ask, gpu, host

HOLDER = Holder("boot", pid=5, start_ticks=9)


def entry(name: str, mb: int) -> Entry:
    return Entry(name, ("GPU-0",), (0,), mb, 60, T0, None)


@pytest.mark.parametrize(
    ("used", "own", "reserved", "foreign", "available"),
    [
        (0, {}, [], 0, 900),
        (300, {}, [], 300, 600),
        (0, {}, [400], 0, 500),
        (300, {}, [400], 300, 200),  # unbound: all use is foreign, so both count
        (300, {"r0": 300}, [400], 0, 500),  # its own use lies inside its reservation
        (500, {"r0": 500}, [400], 0, 400),  # it outgrew its size: the truth counts
        (500, {"r0": 500}, [400, 100], 0, 300),  # and the other one's promise is not lent out
        (990, {}, [400], 990, 0),
    ],
)
def test_available_is_what_nobody_uses_and_nobody_was_promised(
    used: int, own: dict[str, int], reserved: list[int], foreign: int, available: int
) -> None:
    device = gpu(0, 1000, used, own_mb=own, margin_mb=100)
    sums = balance(device, [entry(f"r{i}", mb) for i, mb in enumerate(reserved)])
    assert (sums.foreign_mb, sums.available_mb) == (foreign, available)


def test_all_or_none() -> None:
    ledger = Ledger()
    devices = host(gpu(0), gpu(1, used_mb=950))
    with pytest.raises(Problem) as refused:
        ledger.reserve(ask(0, 1), devices, T0, "a")
    assert refused.value.extra["shortfall"] == [
        {"device": "GPU 1", "gpu_index": 1, "required_mb": 100, "available_mb": 50, "shortfall_mb": 50}
    ]
    assert refused.value.extra["would_fit"] == {
        "max_required_mb": 50,
        "gpu_indices": [],
        "required_mb_per_gpu": 50,
    }
    assert ledger.entries == {}


def test_a_refusal_names_gpus_that_would_take_it() -> None:
    devices = host(gpu(0, used_mb=950), gpu(1), gpu(2))
    with pytest.raises(Problem, match="GPU 1 would take it"):
        Ledger().reserve(ask(0), devices, T0, "a")


def test_ram_is_a_device() -> None:
    ledger = Ledger()
    devices = host(ram_mb=1000, ram_used_mb=300)
    assert ledger.reserve(ask(mb=700), devices, T0, "a").devices == (RAM,)
    with pytest.raises(Problem, match="Nothing fits there now"):
        ledger.reserve(ask(mb=1), devices, T0, "b")


def test_bound_does_not_expire_and_unbound_does_to_the_tick() -> None:
    ledger = Ledger()
    devices = host(gpu(0))
    ledger.reserve(ask(0, seconds=10), devices, T0, "a")
    ledger.reserve(ask(0, seconds=10), devices, T0, "b")
    ledger.bind("a", HOLDER)
    assert ledger.expire(T0 + timedelta(seconds=9.999)) == []
    late = ledger.expire(T0 + timedelta(seconds=10))
    assert [(e.reservation_id, e.state) for e in late] == [("b", State.EXPIRED)]
    assert ledger.expire(T0 + timedelta(days=365)) == []
    assert ledger.renew("a", T0, 5).expires_at is None


def test_bound_once_only() -> None:
    ledger = Ledger()
    ledger.reserve(ask(0), host(gpu(0)), T0, "a")
    assert ledger.bind("a", HOLDER) == ledger.bind("a", HOLDER)
    with pytest.raises(Problem, match="bound to something else"):
        ledger.bind("a", Holder("boot", pid=6, start_ticks=9))


@pytest.mark.parametrize(("health", "cordoned"), [("lost", False), ("ok", True)])
def test_a_lost_or_cordoned_gpu_takes_nothing_new(health: str, cordoned: bool) -> None:
    device = gpu(0, health=health)
    ledger = Ledger(orders=Orders(frozenset(["GPU-0"] if cordoned else [])))
    with pytest.raises(Problem) as refused:
        ledger.reserve(ask(0), host(device), T0, "a")
    assert refused.value.cause == "gpu-not-usable"


def test_an_ended_key_makes_a_new_reservation() -> None:
    ledger = Ledger()
    devices = host(gpu(0))
    assert ledger.reserve(ask(0, key="k"), devices, T0, "a") is ledger.reserve(
        ask(0, key="k"), devices, T0, "b"
    )
    ledger.release("a")
    assert ledger.reserve(ask(0, key="k"), devices, T0, "c").reservation_id == "c"
