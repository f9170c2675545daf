"""Observed use, split over what is bound."""

from dataclasses import replace

from gpu_orchestrator.attribution import Sight, devices_of, foreign_floors
from gpu_orchestrator.devices import GpuProcess, GpuReading, RamReading
from gpu_orchestrator.entries import RAM, Entry, Holder, State
from gpu_orchestrator.ledger import Ledger
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


def test_what_was_there_before_the_reservation_stays_foreign() -> None:
    gpu = reading(readable=False)
    floors = foreign_floors({}, [replace(gpu, used_mb=150)], RAM_READING, [])
    assert floors == {"GPU-0": 150}
    entries = [bound("a", 500, "GPU-0")]
    floors = foreign_floors(floors, [gpu], RAM_READING, entries)
    found = devices_of([gpu], RAM_READING, entries, Sight(foreign_floor_mb=floors), margins=(0, 0))
    assert found["GPU-0"].own_mb == {"a": 450}
    assert foreign_floors(floors, [replace(gpu, used_mb=90)], RAM_READING, entries) == {"GPU-0": 90}
    assert foreign_floors({}, [gpu], RAM_READING, entries) == {"GPU-0": 0}, "after a restart nobody knows"


def test_pids_of_another_namespace_are_believed_only_with_a_known_one_among_them() -> None:
    entries = [bound("a", 500, "GPU-0")]
    gpu = reading(GpuProcess(5, 400), GpuProcess(6, 200))
    for pid, attribution in ((5, "process"), (77, "assumed")):
        sight = Sight({"a": frozenset({pid})}, same_pids=False)
        assert (
            devices_of([gpu], RAM_READING, entries, sight, margins=(0, 0))["GPU-0"].attribution == attribution
        )


INTEGRATED = GpuReading(0, "GB10", "NVIDIA GB10", 0, 0, unified=True)


def test_an_integrated_gpu_and_ram_are_one_pool() -> None:
    """Of 1,000 MiB 300 are used: 100 by the RAM engine, 120 by the GPU's in its driver and 30 of its own."""
    entries = [bound("cpu", 200, RAM), bound("gpu", 300, "GB10")]
    gpu = replace(INTEGRATED, processes=(GpuProcess(7, 120),))
    sight = Sight({"cpu": frozenset({6}), "gpu": frozenset({7})}, {6: 100, 7: 30})
    devices = devices_of([gpu], RAM_READING, entries, sight, margins=(0, 0))
    ledger = Ledger(entries)
    pool = ledger.balance(devices["GB10"])
    assert devices["GB10"].own_mb == {"cpu": 100, "gpu": 150}
    assert (pool.reserved_mb, pool.foreign_mb, pool.available_mb) == (500, 50, 450)
    assert ledger.balance(devices[RAM]).available_mb == 450
    assert [entry.reservation_id for entry in ledger.on(devices["GB10"])] == ["cpu", "gpu"]


def test_the_machine_is_the_pool_and_the_container_is_a_part_of_it() -> None:
    """A container of 200 MiB on a machine of 1,000: the GPU has the machine's, RAM the lesser of both."""
    ram = RamReading(total_mb=200, available_mb=180, machine_total_mb=1000, machine_available_mb=700)
    devices = devices_of([INTEGRATED], ram, [], margins=(0, 0))
    assert Ledger().balance(devices["GB10"]).available_mb == 700
    assert Ledger().balance(devices[RAM]).available_mb == 180
    promised = [replace(bound("gpu", 650, "GB10"), state=State.CREATED, holder=None)]
    devices = devices_of([INTEGRATED], ram, promised, margins=(0, 0))
    assert Ledger(promised).balance(devices[RAM]).available_mb == 50


def test_a_board_that_tells_of_no_process_is_assumed() -> None:
    gpu = replace(INTEGRATED, processes_readable=False)
    entries = [bound("cpu", 200, RAM), bound("gpu", 300, "GB10")]
    sight = Sight({"cpu": frozenset({6}), "gpu": frozenset({7})}, {6: 100, 7: 30}, {"GB10": 60})
    device = devices_of([gpu], RAM_READING, entries, sight, margins=(0, 0))["GB10"]
    assert (device.attribution, device.own_mb) == ("assumed", {"cpu": 100, "gpu": 140})


def test_a_card_in_mig_mode_gives_nothing_and_its_slices_know_it() -> None:
    card = replace(reading(), schedulable=False)
    part = GpuReading(100, "MIG-1", "slice", 400, 20, parent=0)
    devices = devices_of([card, part], RAM_READING, [], margins=(0, 0))
    assert devices["GPU-0"].health == "in MIG mode (reserve its slices: 100)"
    assert (devices["MIG-1"].parent, devices["MIG-1"].health) == ("GPU-0", "ok")
    alone = devices_of([card], RAM_READING, [], margins=(0, 0))
    assert alone["GPU-0"].health == "in MIG mode and has no slice yet"
