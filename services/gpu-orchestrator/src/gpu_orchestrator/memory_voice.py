"""Says on NATS how memory is: a warning when a device's level changes, and the level of the whole host."""

import contextlib

import structlog

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import MemoryLevel
from compute_common.problems import Problem
from compute_common.schemas.memory import NodeMemoryLevel
from compute_common.times import utc_now
from gpu_orchestrator.memory_watch import MemoryWatch
from gpu_orchestrator.observer import View

log = structlog.get_logger("memory")

REPEAT_SECONDS = 5.0  # who starts later, or missed a change, knows it by then


class MemoryVoice:
    """The host's level goes to its detector, whose heartbeats carry it to planner and scheduler."""

    def __init__(self, bus: Bus, node_id: str, watch: MemoryWatch) -> None:
        self._bus = bus
        self._node_id = node_id
        self._watch = watch
        self._said: MemoryLevel | None = None
        self._said_at = 0.0

    async def say(self, view: View) -> None:
        """Take the look in and tell what is due; with NATS away the level is told after it is back."""
        for warning in self._watch.observe(view):
            log.warning("memory level changed", **warning.model_dump(mode="json", exclude={"timestamp", "v"}))
            with contextlib.suppress(Problem):
                await self._bus.publish(subjects.GPU_MEMORY_WARNING, warning)
        level = self._watch.node_level()
        if level is self._said and view.taken_at - self._said_at < REPEAT_SECONDS:
            return
        with contextlib.suppress(Problem):
            message = NodeMemoryLevel(node_id=self._node_id, level=level, timestamp=utc_now())
            await self._bus.publish(subjects.gpu_subject("level", self._node_id), message)
            self._said, self._said_at = level, view.taken_at
