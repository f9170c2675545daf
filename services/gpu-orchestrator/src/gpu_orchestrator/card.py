"""One NVIDIA card, read again and again: its memory each time, the rest about once a second."""

from dataclasses import replace
from typing import Any

from compute_common.nvml import GpuLostError, is_integrated
from gpu_orchestrator.answers import Answers
from gpu_orchestrator.devices import GpuReading
from gpu_orchestrator.memory_of_gpu import read_memory, read_processes
from gpu_orchestrator.mig import MigSlices, mig_enabled
from gpu_orchestrator.vitals import LOST, OK, UNREADABLE, Vitals, Xid, health_of, is_critical

SLOW_SECONDS = 0.9
_TEMPERATURE_GPU = 0
_UNCORRECTED, _VOLATILE = 1, 0
_RECOVERY_ACTION_FIELD = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
_HOTTEST_C, _STRONGEST_MW = 250, 5_000_000


class Card:
    """Remembers who the card is, so that one that fails is still named; for one thread."""

    def __init__(self, answers: Answers, index: int) -> None:
        self.index = index
        self.handle: Any = None
        self.xid: Xid | None = None
        self._answers = answers
        self._slices = MigSlices(answers, index)
        self._slow = GpuReading(index, f"gpu-{index}", "GPU", 0, 0)
        self._vitals = Vitals()
        self._slow_at = float("-inf")
        self._identified = False

    # --- for reading links

    def quietly(self, call: str, *arguments: Any) -> Any:
        return self._answers.ask(call, self.handle, *arguments)

    def source(self, field: str, where: str) -> None:
        """Sources are the resource detector's business."""

    # --- reading

    def read(self, now: float) -> tuple[GpuReading, ...]:
        """The card and its slices; GpuLostError when it is gone."""
        if self.handle is None:
            self.handle = self._answers.ask("nvmlDeviceGetHandleByIndex", self.index)
            self._slow_at = float("-inf")
            if self.handle is None:
                raise GpuLostError
        if now - self._slow_at >= SLOW_SECONDS:
            self._read_slowly()
            self._slow_at = now
        card = self._with_memory(replace(self._slow, health=health_of(self._vitals, self.xid, now)))
        return (card, *self._slices.read(card)) if not card.schedulable else (card,)

    def asks(self, answers: Answers) -> bool:
        """Whether it was read through this start of the library."""
        return self._answers is answers

    def lose(self) -> None:
        """It is gone: what was known of its state is no longer true once it is back."""
        self.handle, self.xid = None, None

    def happened(self, number: int, now: float) -> None:
        """Its driver told of a critical event (Xid)."""
        if is_critical(number):
            self.xid = Xid(number, now)

    def _read_slowly(self) -> None:
        ask = self._answers
        if not self._identified:
            self._identify()
        rates = ask.ask("nvmlDeviceGetUtilizationRates", self.handle)
        milliwatts = ask.number("nvmlDeviceGetPowerUsage", self.handle, most=_STRONGEST_MW)
        limit_mw = ask.number("nvmlDeviceGetEnforcedPowerLimit", self.handle, most=_STRONGEST_MW)
        self._slow = replace(
            self._slow,
            utilization=None if rates is None else min(100, int(rates.gpu)) / 100,
            temperature_c=ask.number(
                "nvmlDeviceGetTemperature", self.handle, _TEMPERATURE_GPU, most=_HOTTEST_C
            ),
            power_w=None if milliwatts is None else milliwatts / 1000,
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            schedulable=not mig_enabled(ask, self.handle),
        )
        self._vitals = read_vitals(ask, self.handle)
        if not self._slow.schedulable:
            self._slices.find(self.handle, self._slow.uuid)

    def _identify(self) -> None:
        """Once: the ledger knows a card by its UUID, and one that is misread later is still the same."""
        name = self._answers.text("nvmlDeviceGetName", self.handle)
        uuid = self._answers.text("nvmlDeviceGetUUID", self.handle)
        unified = name is not None and is_integrated(name)
        self._slow = replace(
            self._slow, name=name or "GPU", uuid=uuid or f"gpu-{self.index}", unified=unified
        )
        self._identified = True

    def _with_memory(self, card: GpuReading) -> GpuReading:
        memory = read_memory(self._answers, self.handle)
        if memory is None and not card.unified:
            health = UNREADABLE if card.health == OK else card.health
            return replace(card, total_mb=card.total_mb, used_mb=card.total_mb, health=health)
        total_mb = memory.total_mb if memory else 0
        used_mb = memory.used_mb if memory else 0
        self._slow = replace(self._slow, total_mb=total_mb)
        listed = read_processes(self._answers, self.handle, total_mb or 1 << 24) if card.schedulable else ()
        return replace(
            card,
            total_mb=total_mb,
            used_mb=used_mb,
            processes=listed or (),
            processes_readable=listed is not None,
        )


def read_vitals(answers: Answers, handle: Any) -> Vitals:
    """Error counts and what the driver says should be done; a card without such counts has none."""
    errors = answers.ask("nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, _VOLATILE)
    rows = answers.ask("nvmlDeviceGetRemappedRows", handle)
    pages = answers.ask("nvmlDeviceGetRetiredPagesPendingStatus", handle)
    return Vitals(
        uncorrected_errors=int(errors or 0),
        rows_pending=bool(rows and rows[2]),
        rows_failed=bool(rows and rows[3]),
        pages_pending=pages == 1,
        recovery_action=_recovery_action(answers, handle),
    )


def _recovery_action(answers: Answers, handle: Any) -> int:
    fields = answers.ask("nvmlDeviceGetFieldValues", handle, [_RECOVERY_ACTION_FIELD])
    return int(fields[0].value.uiVal) if fields and fields[0].nvmlReturn == 0 else 0


def lost(gpu: GpuReading, why: str = LOST) -> GpuReading:
    """The same GPU without an answer: all of it counts as used."""
    return GpuReading(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        total_mb=gpu.total_mb,
        used_mb=gpu.total_mb,
        processes_readable=False,
        health=why,
        unified=gpu.unified,
        schedulable=gpu.schedulable,
        parent=gpu.parent,
    )
