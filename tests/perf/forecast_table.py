"""`python -m tests.perf.forecast_table [--real]`: the table of the memory forecast in docs/performance.md."""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support.forecast_trials import SEEDS, Trial, simulate, table
from tests.support.growth import KINDS
from tests.support.real_trials import RealTrial, short_seeds

UNSEEN = range(1000, 1080)  # never looked at while the method was made
REAL_EACH = 2


def simulated(seeds: range) -> list[Trial]:
    return [simulate(kind, seed) for kind in KINDS.values() for seed in seeds]


async def real(folder: Path) -> list[Trial]:
    """Two of each kind, side by side, at the pace of the clock: ten minutes."""
    trials = [
        RealTrial(kind, seed, folder / f"{kind.name}-{seed}")
        for kind in KINDS.values()
        for seed in short_seeds(kind, REAL_EACH)
    ]
    return await asyncio.gather(*(trial.run() for trial in trials))


def main() -> None:
    print(f"seeds {SEEDS.start}-{SEEDS[-1]}\n\n{table(simulated(SEEDS))}\n")
    print(f"seeds {UNSEEN.start}-{UNSEEN[-1]}\n\n{table(simulated(UNSEEN))}\n")
    if "--real" in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            print(f"in real control groups\n\n{table(asyncio.run(real(Path(folder))))}")


if __name__ == "__main__":
    main()
