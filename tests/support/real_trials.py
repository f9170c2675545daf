"""The forecast over memory that really grows in a real control group, read by the product's own reader."""

import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gpu_orchestrator.forecast import Floors, Sample, Track, follow
from gpu_orchestrator.host_memory import read_ram
from tests.support.cgroup import memory_group
from tests.support.forecast_trials import Judge, Trial
from tests.support.growth import CALM_SECONDS, Kind, dice

LIMIT_MB = 160
ROOT = Path(__file__).parents[2]
QUIET_END = 400.0
LONGEST_FILL = 400


def short_seeds(kind: Kind, count: int) -> list[int]:
    """The first seeds of a kind that end soon enough to wait for."""
    seeds: list[int] = []
    seed = 0
    while len(seeds) < count:
        if not kind.leaks or kind.curve(dice(kind.name, seed))(CALM_SECONDS + LONGEST_FILL) >= 1:
            seeds.append(seed)
        seed += 1
    return seeds


@dataclass(frozen=True)
class RealTrial:
    """One trial in a control group of its own; at a `pace` curve and watcher's clock run so much faster."""

    kind: Kind
    seed: int
    folder: Path
    pace: float = 1.0

    async def run(self) -> Trial:
        """Until the kernel kills what grows, or `QUIET_END`. Raises NoGroupError where there is none."""
        with memory_group(LIMIT_MB) as group:
            root = group.seen_from_inside(self.folder)
            epoch = time.monotonic()
            arguments = (group.folder, LIMIT_MB, self.kind.name, self.seed, epoch, self.pace)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.support.growing", *map(str, arguments), cwd=ROOT
            )
            try:
                return await self._watch(process, root, epoch)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    async def _watch(self, process: asyncio.subprocess.Process, root: Path, epoch: float) -> Trial:
        floors, track, judge = Floors.of_ram(LIMIT_MB), Track(), Judge()
        while True:
            at = (time.monotonic() - epoch) * self.pace
            if process.returncode is not None:
                assert process.returncode == -signal.SIGKILL, f"it ended with {process.returncode}"
                return judge.trial(self.kind.name, self.seed, at - CALM_SECONDS)
            if not self.kind.leaks and at >= QUIET_END:
                return judge.trial(self.kind.name, self.seed, None)
            seen = read_ram(root)
            assert seen.total_mb == LIMIT_MB
            track = follow(track, Sample(at, seen.available_mb, seen.available_mb), floors)
            judge.see(at - CALM_SECONDS, track.outlook.level)
            await asyncio.sleep(1 / self.pace)
