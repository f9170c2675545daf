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


def gpu(at: float, used: int, health: str = "ok") -> View:
    ram = Device(RAM, None, 64_000, 8_000)
    card = Device("GPU-0", 0, 24_564, used, health=health)
    return View({RAM: ram, "GPU-0": card}, (), RamReading(64_000, 56_000), {}, at)


def test_a_card_that_is_full_and_stays_so_keeps_no_work_from_the_host() -> None:
    watch = MemoryWatch("host-a", Ledger)
    for t in range(200):
        watch.observe(gpu(t, 24_550))
    assert watch.answer(gpu(200, 24_550)).gpus[0].level is MemoryLevel.CRITICAL
    assert watch.node_level() is MemoryLevel.OK


def test_a_card_that_is_filling_up_does() -> None:
    watch = MemoryWatch("host-a", Ledger)
    levels = set()
    for t in range(220):
        watch.observe(gpu(t, 2_000 + 100 * t))
        levels.add(watch.node_level())
    assert levels == {MemoryLevel.OK, MemoryLevel.WARN, MemoryLevel.CRITICAL}
    forecast = watch.answer(gpu(220, 24_000)).gpus[0]
    assert forecast.predicted_oom_seconds is not None
    assert forecast.predicted_oom_range_seconds is not None
    assert watch.answer(gpu(220, 24_000)).predicted_oom_seconds is None, "RAM has no trend"


def test_of_a_lost_card_nothing_is_said() -> None:
    watch = MemoryWatch("host-a", Ledger)
    for t in range(220):
        watch.observe(gpu(t, 2_000 + 100 * t))
    told = [warning for t in range(220, 300) for warning in watch.observe(gpu(t, 24_564, "lost"))]
    assert [(w.gpu_index, w.level) for w in told] == [(0, MemoryLevel.OK)]
    assert watch.node_level() is MemoryLevel.OK


def test_a_gpu_without_memory_of_its_own_is_judged_like_ram() -> None:
    watch = MemoryWatch("host-a", Ledger)
    ram = Device(RAM, None, 120_000, 116_000)
    integrated = Device("GPU-0", 0, 120_000, 116_000, pool=frozenset({RAM}))
    seen = View({RAM: ram, "GPU-0": integrated}, (), RamReading(120_000, 4_000), {}, 1.0)
    told = watch.observe(seen)
    assert [(w.gpu_index, w.level) for w in told] == [(None, MemoryLevel.WARN), (0, MemoryLevel.WARN)]
    assert watch.node_level() is MemoryLevel.WARN
