"""A GPU that fails, is lost, goes away or is well again is one change each; what was not told stays due."""

from dataclasses import replace

from gpu_orchestrator.devices import GpuReading
from gpu_orchestrator.health_watch import HealthChange, HealthWatch

FIRST = GpuReading(0, "GPU-a", "Card", 1000, 0)
SECOND = GpuReading(1, "GPU-b", "Card", 1000, 0)


def sick(gpu: GpuReading, health: str = "lost") -> GpuReading:
    return replace(gpu, health=health)


def short(changes: list[HealthChange]) -> list[tuple[str, int, str, str]]:
    return [(each.uuid, each.index, each.before, each.health) for each in changes]


def test_each_change_is_seen_once() -> None:
    watch = HealthWatch()
    assert watch.observe([FIRST, SECOND]) == []
    assert short(watch.observe([FIRST, sick(SECOND)])) == [("GPU-b", 1, "ok", "lost")]
    assert watch.observe([FIRST, sick(SECOND)]) == []
    failing = sick(SECOND, "failing: Xid 79")
    assert short(watch.observe([FIRST, failing])) == [("GPU-b", 1, "lost", "failing: Xid 79")]
    assert short(watch.observe([FIRST, SECOND])) == [("GPU-b", 1, "failing: Xid 79", "ok")]


def test_lost_at_the_first_look_is_a_change_and_its_name_comes_later() -> None:
    watch = HealthWatch()
    unnamed = GpuReading(1, "gpu-1", "GPU", 0, 0, health="lost")
    assert short(watch.observe([FIRST, unnamed])) == [("gpu-1", 1, "ok", "lost")]
    assert short(watch.observe([FIRST, SECOND])) == [("GPU-b", 1, "lost", "ok")]


def test_a_card_whose_place_another_took_is_gone_until_it_is_back() -> None:
    """Drivers number the cards that are left."""
    watch = HealthWatch()
    watch.observe([FIRST, SECOND])
    assert short(watch.observe([replace(SECOND, index=0)])) == [("GPU-a", 0, "ok", "gone")]
    assert watch.observe([replace(SECOND, index=0)]) == []
    assert short(watch.observe([FIRST, SECOND])) == [("GPU-a", 0, "gone", "ok")]


def test_what_could_not_be_told_is_due_as_it_now_is() -> None:
    watch = HealthWatch()
    watch.observe([FIRST, SECOND])
    assert short(watch.due(watch.observe([FIRST, sick(SECOND)]))) == [("GPU-b", 1, "ok", "lost")]
    failing = [sick(FIRST, "failing: Xid 79"), sick(SECOND, "not answering")]
    due = watch.due(watch.observe(failing))
    assert short(due) == [("GPU-b", 1, "ok", "not answering"), ("GPU-a", 0, "ok", "failing: Xid 79")]
    watch.told(due[1])
    assert watch.due(watch.observe([sick(FIRST, "failing: Xid 79"), SECOND])) == [], "well again, untold"


def test_slices_cut_anew_for_ever_are_forgotten() -> None:
    watch = HealthWatch()
    for number in range(5_000):
        watch.due(watch.observe([FIRST, GpuReading(100, f"MIG-{number}", "Slice", 10, 0, parent=0)]))
    assert len(watch.due([])) < 300
