"""What the heartbeat says of memory: the GPU orchestrator's last word, `ok` when it has gone silent."""

from compute_common.enums import MemoryLevel
from compute_common.schemas.memory import NodeMemoryLevel
from compute_common.times import utc_now
from resource_detector.memory_level import SILENT_SECONDS, HeardLevel


def said(level: MemoryLevel, node_id: str = "box.1") -> NodeMemoryLevel:
    return NodeMemoryLevel(node_id=node_id, level=level, timestamp=utc_now())


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_change_is_one_only_once() -> None:
    heard = HeardLevel("box.1", Clock())
    assert heard.now() is None
    assert heard.hear(said(MemoryLevel.CRITICAL))
    assert not heard.hear(said(MemoryLevel.CRITICAL))
    assert heard.now() is MemoryLevel.CRITICAL
    assert heard.hear(said(MemoryLevel.OK))


def test_another_hosts_level_is_nothing() -> None:
    heard = HeardLevel("box.1", Clock())
    assert not heard.hear(said(MemoryLevel.CRITICAL, "box.2"))
    assert heard.now() is None


def test_a_level_that_nobody_repeats_is_taken_back() -> None:
    clock = Clock()
    heard = HeardLevel("box.1", clock)
    heard.hear(said(MemoryLevel.CRITICAL))
    clock.now += SILENT_SECONDS + 1
    assert heard.now() is MemoryLevel.OK
    assert heard.hear(said(MemoryLevel.CRITICAL)), "and given again"


def test_a_host_nobody_watches_is_ok_in_the_end() -> None:
    clock = Clock()
    heard = HeardLevel("box.1", clock)
    clock.now += SILENT_SECONDS + 1
    assert heard.now() is MemoryLevel.OK
