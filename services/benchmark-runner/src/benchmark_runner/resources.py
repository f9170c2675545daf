"""RAM, GPU memory and power of the target's host while a cell is measured, as its ledger tells them."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.benchmark import ResourceUse
from compute_common.schemas.gpu import GpuStates
from compute_common.tasks import end_tasks

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 2.0


@dataclass(slots=True)
class _Seen:
    ram_mb: list[int] = field(default_factory=list)
    vram_mb: list[int] = field(default_factory=list)
    power_w: list[float] = field(default_factory=list)


class ResourceWatch:
    """Looks once a second inside the block. `gpus`: of each host, by node id."""

    def __init__(self, bus: Bus, gpus: dict[str, Sequence[int]]) -> None:
        self._bus = bus
        self._gpus = gpus
        self._seen = _Seen()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._gpus:
            self._task = asyncio.create_task(self._watch(), name="resource-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_tasks([self._task])

    def found(self, output_tokens_per_s: float) -> ResourceUse | None:
        """What was seen so far; None where nobody could read it."""
        seen = self._seen
        looks = len(seen.ram_mb)
        if not looks:
            return None
        power = sum(seen.power_w) / len(seen.power_w) if seen.power_w else None
        return ResourceUse(
            ram_used_mb=max(seen.ram_mb),
            vram_used_mb=max(seen.vram_mb) if seen.vram_mb else None,
            power_w=round(power, 1) if power is not None else None,
            tokens_per_joule=round(output_tokens_per_s / power, 4) if power else None,
            samples=looks,
        )

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Hosts of one instance are added up; a look counts only when all of them answered."""
        ram, vram, power = 0, 0, 0.0
        told_vram = told_power = False
        for node_id, indices in self._gpus.items():
            states = await self._states(node_id)
            if states is None:
                return
            ram += states.host_memory.used_mb
            cards = [gpu for gpu in states.gpus if gpu.index in indices]
            vram += sum(gpu.used_mb for gpu in cards)
            watts = [gpu.power_w for gpu in cards if gpu.power_w is not None]
            power += sum(watts)
            told_vram, told_power = told_vram or bool(cards), told_power or bool(watts)
        self._seen.ram_mb.append(ram)
        if told_vram:
            self._seen.vram_mb.append(vram)
        if told_power:
            self._seen.power_w.append(power)

    async def _states(self, node_id: str) -> GpuStates | None:
        with contextlib.suppress(Problem, ValidationError, ValueError):
            subject = subjects.gpu_subject("states", node_id)
            return GpuStates.model_validate(await self._bus.request(subject, {}, ANSWER_SECONDS))
        return None
