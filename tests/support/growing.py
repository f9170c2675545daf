"""`python -m tests.support.growing FOLDER LIMIT_MB KIND SEED EPOCH PACE`: really use memory along a curve.

It joins the control group FOLDER and holds what the curve says of its limit, until it is killed. EPOCH is the
monotonic second at which the curve began, PACE the seconds of the curve to one of the clock.
"""

import mmap
import os
import sys
import time
from pathlib import Path

from tests.support.growth import KINDS, dice

PIECE = 256 << 10
STEP_SECONDS = 0.02


def main() -> None:
    folder, limit_mb, kind, seed, epoch, pace = sys.argv[1:]
    (Path(folder) / "cgroup.procs").write_text(str(os.getpid()))
    curve = KINDS[kind].curve(dice(kind, int(seed)))
    pieces: list[mmap.mmap] = []
    while True:
        wanted = curve((time.monotonic() - float(epoch)) * float(pace)) * (int(limit_mb) << 20)
        _hold(pieces, int(wanted / PIECE))
        time.sleep(STEP_SECONDS)


def _hold(pieces: list[mmap.mmap], count: int) -> None:
    while len(pieces) > count:
        pieces.pop().close()
    while len(pieces) < count:
        piece = mmap.mmap(-1, PIECE)
        for page in range(0, PIECE, mmap.PAGESIZE):
            piece[page] = 1
        pieces.append(piece)


if __name__ == "__main__":
    main()
