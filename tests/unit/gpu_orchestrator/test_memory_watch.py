"""A level that changes is told once, and the same level at most once a minute."""

from compute_common.enums import MemoryLevel
from gpu_orchestrator.devices import Device, RamReading
from gpu_orchestrator.entries import RAM
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.memory_watch import MemoryWatch
from gpu_orchestrator.observer import View


def view(at: float, available: int) -> View:
    ram = Device(RAM, None, 10_000, 10_000 - available)
    return View({RAM: ram}, (), RamReading(10_000, available), {}, at)


def test_each_change_is_told_once() -> None:
    watch = MemoryWatch("host-a", Ledger)
    told = [warning for t in range(30) for warning in watch.observe(view(t, 5_000 if t < 10 else 100))]
    assert [(w.level, w.previous_level, w.gpu_index) for w in told] == [
        (MemoryLevel.CRITICAL, MemoryLevel.OK, None)
    ]
    assert watch.answer(view(30, 100)).level is MemoryLevel.CRITICAL


def test_a_flapping_level_is_told_once_a_minute() -> None:
    watch = MemoryWatch("host-a", Ledger)
    told = [w for t in range(120) for w in watch.observe(view(t, 100 if t % 20 < 5 else 5_000))]
    assert sum(w.level is MemoryLevel.CRITICAL for w in told) <= 2
