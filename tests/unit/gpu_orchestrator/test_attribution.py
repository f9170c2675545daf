"""Observed use, split over what is bound."""

from gpu_orchestrator.attribution import Sight, devices_of
from gpu_orchestrator.devices import GpuProcess, GpuReading, RamReading
from gpu_orchestrator.entries import RAM, Entry, Holder, State
from tests.unit.gpu_orchestrator.ledgers import T0

RAM_READING = RamReading(total_mb=1000, available_mb=700)


def bound(name: str, mb: int, *devices: str) -> Entry:
    return Entry(name, devices, (0,), mb, 60, T0, None, State.BOUND, holder=Holder("boot", pid=1))


def reading(*processes: GpuProcess, readable: bool = True) -> GpuReading:
    return GpuReading(0, "GPU-0", "T", 1000, 600, processes=processes, processes_readable=readable)


def test_use_of_the_bound_process_is_its_own() -> None:
    gpu = reading(GpuProcess(5, 400), GpuProcess(6, 200))
    found = devices_of(
        [gpu], RAM_READING, [bound("a", 500, "GPU-0")], Sight({"a": frozenset({5})}), margins=(0, 0)
    )
    assert found["GPU-0"].own_mb == {"a": 400}
    assert found["GPU-0"].attribution == "process"


def test_a_process_counts_for_one_reservation_only() -> None:
    entries = [bound("a", 500, RAM), bound("b", 500, RAM)]
    members = {"a": frozenset({5}), "b": frozenset({5, 6})}
    found = devices_of([], RAM_READING, entries, Sight(members, {5: 100, 6: 30}), margins=(0, 0))
    assert found[RAM].own_mb == {"a": 100, "b": 30}


def test_unreadable_use_is_assumed_and_says_so() -> None:
    entries = [bound("a", 500, "GPU-0"), bound("b", 500, "GPU-0")]
    for gpu in (reading(readable=False), reading(GpuProcess(5, None))):
        found = devices_of([gpu], RAM_READING, entries, margins=(0, 0))
        assert found["GPU-0"].own_mb == {"a": 500, "b": 100}
        assert found["GPU-0"].attribution == "assumed"


def test_the_margin_of_ram_is_a_twentieth_at_most() -> None:
    assert devices_of([], RAM_READING, [], margins=(256, 512))[RAM].margin_mb == 50
