"""What a soak sees from outside, and whether it stood still: memory, files, latency, by thirds of the time.

The first third is warm-up; the last is compared with the middle one.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.perf.soak_load import Timed

MIB = 1 << 20
SMALL_MIB = 2.0  # a process may move by so much whatever its size
FILE_ROOM = 256 << 10  # bytes
STREAM_ROOM = 9 << 20  # bytes: NATS frees a block of 8 MiB at a time
SHOWN_BYTES = 16 << 10  # smaller groups of files are shown only where they grow
LOG_BOUND = 24 << 20  # bytes: ten and a little, twice
SLOWER = 1.5
SLOW_ROOM_MS = 3.0


@dataclass(frozen=True)
class Look:
    """RSS of each program in MiB and bytes of each group of files, so many seconds after the beginning."""

    at: float
    rss: Mapping[str, float]
    files: Mapping[str, int]


@dataclass(frozen=True)
class Row:
    """A line of the table; `wrong` where it did not stand still."""

    name: str
    middle: float
    last: float
    wrong: bool

    def __str__(self) -> str:
        mark = "  <-- not flat" if self.wrong else ""
        change = 100 * (self.last / self.middle - 1) if self.middle else 0.0
        return f"{self.name:44} {self.middle:12.2f} {self.last:12.2f} {change:+7.1f} %{mark}"


def look(at: float, processes: Mapping[str, psutil.Process], home: Path) -> Look:
    """Now. A program that ended is left out."""
    rss = {}
    for name, process in processes.items():
        try:
            rss[name] = process.memory_info().rss / MIB
        except psutil.NoSuchProcess:
            continue
    files: dict[str, int] = defaultdict(int)
    for path in home.rglob("*"):
        try:
            if path.is_file():
                files[_group(path.relative_to(home))] += path.stat().st_size
        except OSError:
            continue  # it went between the listing and the look
    return Look(at, rss, dict(files))


def _group(path: Path) -> str:
    """A log stands alone; of everything else the folder, of NATS the stream."""
    if "streams" in path.parts:
        return "/".join(("nats", *path.parts[path.parts.index("streams") + 1 :][:1]))
    return "/".join(path.parts[:2])


def memory(looks: Iterable[Look], seconds: float, tolerance: float) -> list[Row]:
    """Mean RSS in the middle and in the last third; a fall is no leak."""
    rows = []
    for name, (middle, last) in _thirds(((each.at, each.rss) for each in looks), seconds).items():
        before, after = statistics.fmean(middle), statistics.fmean(last)
        wrong = after - before > max(tolerance * before, SMALL_MIB)
        rows.append(Row(f"RSS {name}, MiB", before, after, wrong))
    return rows


def files(looks: Iterable[Look], seconds: float, tolerance: float) -> list[Row]:
    """The largest size in the middle and in the last third. Logs may grow to their bound."""
    rows = []
    for name, (middle, last) in _thirds(((each.at, each.files) for each in looks), seconds).items():
        before, after = max(middle), max(last)
        room = STREAM_ROOM if name.startswith("nats/") else FILE_ROOM
        bound = LOG_BOUND if name.startswith("logs/") else before + max(tolerance * before, room)
        if after > min(bound, SHOWN_BYTES):
            rows.append(Row(f"{name}, KiB", before / 1024, after / 1024, after > bound))
    return rows


def latency(timed: Iterable[Timed], seconds: float) -> list[Row]:
    """Medians; the 99th percentile is shown, not judged: others share the machine."""
    by_kind: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for each in timed:
        if (third := int(3 * each.at / seconds)) >= 1:
            by_kind[each.kind][min(third, 2) - 1].append(1000 * each.took)
    rows = []
    for kind, (middle, last) in sorted(by_kind.items()):
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            before, after = _quantile(middle, share), _quantile(last, share)
            wrong = share == 0.5 and after > SLOWER * before + SLOW_ROOM_MS
            rows.append(Row(f"{kind} {name}, ms", before, after, wrong))
    return rows


def _thirds(
    looks: Iterable[tuple[float, Mapping[str, float]]], seconds: float
) -> dict[str, tuple[list[float], list[float]]]:
    """Per name the values of the middle and of the last third; names that lack one are left out."""
    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for at, values in looks:
        third = int(3 * at / seconds)
        for name, value in values.items():
            if third >= 1:
                found[name][min(third, 2) - 1].append(value)
    return {name: found[name] for name in sorted(found) if all(found[name])}


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
