"""NVIDIA GPUs through NVML. No library means no GPUs, not an error; a GPU that fails is still named."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from compute_common.nvlink import LinkFound, read_links
from compute_common.nvml import GpuLostError, library_present
from gpu_orchestrator.answers import Answers
from gpu_orchestrator.card import Card, lost
from gpu_orchestrator.devices import GpuReading
from gpu_orchestrator.jetson import read_board
from gpu_orchestrator.vitals import LOST
from gpu_orchestrator.xids import Xids

log = structlog.get_logger("nvml")

RETRY_SECONDS = 30.0
RETRY_LOST_SECONDS = 5.0  # with GPUs missing that were there: a reset card is seen only by a new start
LINKS_SECONDS = 60.0
MOST_CARDS = 512


class Nvml:
    """Opened at the first reading, looked for again while it is not there. For one thread."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        board: Callable[[], GpuReading | None] = read_board,
    ) -> None:
        self._clock = clock
        self._board = board
        self._answers: Answers | None = None
        self._xids: Xids | None = None
        self._cards: dict[int, Card] = {}
        self._known: dict[str, GpuReading] = {}
        self._replaced: set[str] = set()
        self._next_try = float("-inf")
        self._links: dict[int, dict[int, str]] = {}
        self._links_at = float("-inf")
        self.detail: str | None = "not looked for yet"

    def read(self) -> tuple[GpuReading, ...]:
        """Every GPU now; one that answered before and does not now is reported as lost."""
        now = self._clock()
        answers = self._answers or self._open(now)
        if answers is None:
            return self._with_missing(self._without_nvml(), now)
        count = _count(answers)
        if count is None:
            self._close("the driver stopped answering (driver upgrade, or every GPU lost)")
            self._next_try = now + RETRY_LOST_SECONDS
            return self._with_missing((), now)
        found = [gpu for index in range(min(count, MOST_CARDS)) for gpu in self._card(answers, index, now)]
        self._listen(now)
        self._follow_links(now)
        linked = [replace(gpu, links=self._links[gpu.index]) if self._linked(gpu) else gpu for gpu in found]
        return self._with_missing(linked or self._without_nvml(), now)

    def close(self) -> None:
        self._close("closed")

    def _without_nvml(self) -> tuple[GpuReading, ...]:
        board = None if self._known.keys() - {"jetson-0"} else self._board()
        return () if board is None else (board,)

    # --- the library

    def _open(self, now: float) -> Answers | None:
        if now < self._next_try:
            return None
        self._next_try = now + (RETRY_LOST_SECONDS if self._known else RETRY_SECONDS)
        if not library_present():  # before the import: on a host without, nothing is loaded
            self.detail = None
            return None
        import pynvml  # noqa: PLC0415 - only where there is a driver

        answers = Answers(pynvml)
        try:
            pynvml.nvmlInit()
        except answers.errors as error:
            self.detail = f"NVML is there and does not start ({type(error).__name__}); is the driver loaded?"
            log.warning("nvml not usable", reason=type(error).__name__)
            return None
        self._answers, self.detail = answers, None
        self._xids = Xids(answers)
        self._links_at = float("-inf")
        return answers

    def _close(self, why: str) -> None:
        if self._xids is not None:
            self._xids.close()
        if self._answers is not None:
            try:
                self._answers.ask("nvmlShutdown")
            except GpuLostError:
                log.info("nvml ended with a lost GPU")
        self._answers, self._xids, self.detail = None, None, why

    # --- the cards

    def _card(self, answers: Answers, index: int, now: float) -> tuple[GpuReading, ...]:
        card = self._cards.get(index)
        if card is None or not card.asks(answers):
            xid = card.xid if card is not None else None
            card = self._cards[index] = Card(answers, index)
            card.xid = xid
        try:
            readings = card.read(now)
        except GpuLostError:
            card.lose()
            if self._xids is not None:
                self._xids.lose(index)
            return self._last_known(index)
        if self._xids is not None:
            self._xids.follow(index, card.handle)
        return readings

    def _last_known(self, index: int) -> tuple[GpuReading, ...]:
        """The card that was there, and its slices; without one, a card that nobody has seen."""
        known = [gpu for gpu in self._known.values() if index in (gpu.index, gpu.parent)]
        return tuple(lost(gpu) for gpu in known) or (
            GpuReading(index, f"gpu-{index}", "GPU", 0, 0, health=LOST),
        )

    def _listen(self, now: float) -> None:
        for index, number in self._xids.new() if self._xids is not None else ():
            log.warning("critical event of a GPU", gpu=index, xid=number)
            self._cards[index].happened(number, now)

    def _follow_links(self, now: float) -> None:
        """Once a minute: a link may go down, and come up again."""
        if now - self._links_at >= LINKS_SECONDS:
            self._links_at = now
            ways = read_links([card for card in self._cards.values() if card.handle is not None])
            self._links = {index: {way.to: _name(way) for way in found} for index, found in ways.items()}

    def _linked(self, gpu: GpuReading) -> bool:
        return gpu.schedulable and gpu.health != LOST and bool(self._links.get(gpu.index))

    def _with_missing(self, found: Iterable[GpuReading], now: float) -> tuple[GpuReading, ...]:
        """`found`, and those known before whose place nobody took. A slice may be destroyed on purpose.

        A card whose place another took (a new start numbers what is left) is looked for by new starts.
        """
        gpus = {gpu.uuid: gpu for gpu in found}
        taken = {gpu.index for gpu in gpus.values()}
        whole = {gpu.index for gpu in gpus.values() if gpu.health != LOST}
        for uuid, gpu in self._known.items():
            if uuid in gpus or gpu.parent in whole:
                continue
            if gpu.index not in taken:
                gpus[uuid] = lost(gpu)
            elif gpu.parent is None and not gpu.unified:
                self._replaced.add(uuid)
        self._replaced -= gpus.keys()
        self._known = {uuid: gpu for uuid, gpu in gpus.items() if gpu.total_mb or gpu.unified}
        if any(gpu.health == LOST for gpu in gpus.values()):
            self._restart_when_due(now, RETRY_LOST_SECONDS)
        elif self._replaced:
            self._restart_when_due(now, RETRY_SECONDS)
        return tuple(sorted(gpus.values(), key=lambda gpu: gpu.index))

    def _restart_when_due(self, now: float, again_seconds: float) -> None:
        if self._answers is not None and now >= self._next_try:
            self._close("started anew because of a lost GPU")
            self._next_try = float("-inf")
            if self._open(now) is not None:
                self._next_try = now + again_seconds


def _name(way: LinkFound) -> str:
    return f"{way.kind} ×{way.lanes}" if way.lanes else way.kind


def _count(answers: Answers) -> int | None:
    try:
        count = answers.ask("nvmlDeviceGetCount")
    except GpuLostError:
        return None
    return count if isinstance(count, int) else None
