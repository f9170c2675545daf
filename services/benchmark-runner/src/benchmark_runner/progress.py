"""How far a run is. Pure."""

from compute_common.schemas.benchmark import BenchmarkProgress


class Progress:
    """Counts `total` cells."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def done(self) -> None:
        """One cell more has ended."""
        self._done += 1

    def skip(self, cells: int) -> None:
        """So many cells turned out not to be needed."""
        self._total -= cells

    def between(self) -> BenchmarkProgress:
        return BenchmarkProgress(cells_done=self._done, cells_total=self._total, percent=self._percent(0.0))

    def within(self, current: str, phase: str, requests: int, of: int) -> BenchmarkProgress:
        """Inside a cell: what it does, and how many of its requests have ended."""
        return BenchmarkProgress(
            cells_done=self._done,
            cells_total=self._total,
            current=current,
            phase=phase or None,
            requests_done=requests,
            requests_total=of,
            percent=self._percent(requests / of if of else 0.0),
        )

    def _percent(self, part: float) -> float:
        return round(100 * min(1.0, (self._done + part) / self._total), 1) if self._total else 0.0
