"""NVIDIA GPUs through NVML. Every optional read may fail alone."""

import re
from dataclasses import dataclass, replace
from typing import Any

from compute_common.gpu_bandwidth import bandwidth_by_name
from compute_common.nvlink import read_links
from compute_common.nvml import GpuLostError, is_integrated
from resource_detector.findings import GpuFound, Notes
from resource_detector.sources.mig import mig_enabled, read_slices
from resource_detector.sources.nvml import Card, Nvml, Refused, text_of

MIB = 1 << 20
MOST_GPUS = 512
CLOCK_MEM, TEMPERATURE_GPU = 2, 0
# Own HBM beside coherent CPU memory: the "480GB" of "GH200 480GB" is the CPU's.
_COHERENT = re.compile(r"\b(GH200|GB200|GB300)\b")


@dataclass(frozen=True)
class Nvidia:
    gpus: tuple[GpuFound, ...] = ()
    driver: str | None = None
    cuda_version: str | None = None


@dataclass(frozen=True)
class SystemRam:
    """What a unified part has for its memory: the machine's, whatever this container's limit."""

    total_mb: int
    used_mb: int | None = None


class NvmlReader:
    """Reads every usable NVIDIA GPU; `api` is the module pynvml."""

    def __init__(self, api: Any = None) -> None:
        self._nvml = Nvml(api)

    def read(self, notes: Notes, ram: SystemRam) -> Nvidia:
        """The GPUs; none, with a reason, where NVML does not answer."""
        if not self._nvml.start(notes):
            return Nvidia()
        count = self._nvml.ask("nvmlDeviceGetCount")
        if isinstance(count, Refused):
            notes.warn(f"the number of GPUs could not be read ({count.reason})")
            self.close()  # a driver that was reloaded wants a new start
            return Nvidia()
        notes.source("gpus", "NVML")
        driver, cuda = self._driver(notes), self._cuda(notes)
        found: dict[int, tuple[Card, GpuFound]] = {}
        for index in range(min(count, MOST_GPUS)):
            try:
                card = self._card(index, notes)
                if card is not None and (gpu := read_gpu(card, driver, ram)) is not None:
                    found[index] = card, gpu
            except GpuLostError:
                notes.forget(f"gpus.{index}.")
                notes.warn(f"GPU {index} is lost (it fell off the bus; reset it or reboot): it is left out")
        links = read_links([card for card, _gpu in found.values()])
        gpus = tuple(replace(gpu, links=links.get(gpu.index, ())) for _card, gpu in found.values())
        return Nvidia(gpus, driver, cuda)

    def close(self) -> None:
        self._nvml.close()

    def _card(self, index: int, notes: Notes) -> Card | None:
        handle = self._nvml.ask("nvmlDeviceGetHandleByIndex", index)
        if isinstance(handle, Refused):
            if handle.lost:
                raise GpuLostError
            notes.warn(f"GPU {index} does not answer ({handle.reason}): it is left out")
            return None
        return Card(self._nvml, index, handle, notes)

    def _driver(self, notes: Notes) -> str | None:
        answer = self._nvml.ask("nvmlSystemGetDriverVersion")
        if isinstance(answer, Refused):
            notes.warn(f"driver version could not be read ({answer.reason})")
            return None
        notes.source("driver_version", "nvmlSystemGetDriverVersion")
        return text_of(answer)

    def _cuda(self, notes: Notes) -> str | None:
        for call in ("nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"):
            if version := self._nvml.ask(call):
                notes.source("cuda_version", call)
                return f"{version // 1000}.{version % 1000 // 10}"
        notes.warn("CUDA version could not be read")
        return None


def read_gpu(card: Card, driver: str | None, ram: SystemRam) -> GpuFound | None:
    """One GPU without its links; None without a name. GpuLostError when it falls off meanwhile."""
    name = text_of(card.tell("name", "nvmlDeviceGetName"))
    if name is None:
        card.notes.warn(f"GPU {card.index} has no name: it is left out")
        return None
    unified = is_integrated(name)
    mig = mig_enabled(card)
    total, used = _memory(card, unified, ram)
    pci = card.tell("pci_bus_id", "nvmlDeviceGetPciInfo")
    ecc = card.quietly("nvmlDeviceGetEccMode")
    if ecc is not None:
        card.source("ecc", "nvmlDeviceGetEccMode")
    gpu = GpuFound(
        index=card.index,
        name=name,
        vendor="nvidia",
        vram_mb=total,
        vram_used_mb=used,
        uuid=text_of(card.tell("uuid", "nvmlDeviceGetUUID")),
        compute_capability=_capability(card),
        bandwidth_gb_s=_bandwidth(card, name, total),
        driver_version=driver,
        utilization=_utilization(card),
        unified=unified,
        coherent=bool(_COHERENT.search(name)),
        pci_bus_id=None if pci is None else text_of(pci.busId),
        pcie_generation=card.tell("pcie_generation", "nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width=card.tell("pcie_width", "nvmlDeviceGetMaxPcieLinkWidth"),
        temperature_c=card.tell("temperature_c", "nvmlDeviceGetTemperature", TEMPERATURE_GPU),
        power_w=_watts(card, "power_w", "nvmlDeviceGetPowerUsage"),
        power_limit_w=_watts(card, "power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
        ecc=None if ecc is None else bool(ecc[0]),
        mig=mig,
        slices=read_slices(card) if mig else (),
    )
    if mig:
        card.excuse("utilization")
    if unified:
        card.excuse("pcie_generation", "pcie_width", "pci_bus_id", "power_limit_w")
    card.close()
    return gpu


def _memory(card: Card, unified: bool, ram: SystemRam) -> tuple[int | None, int | None]:
    """MiB in total and used. Some drivers of unified parts refuse, some say "success" with 0."""
    memory = card.tell("vram_mb", "nvmlDeviceGetMemoryInfo")
    if memory is not None and memory.total:
        return int(memory.total) // MIB, int(memory.used) // MIB
    if unified:
        card.source("vram_mb", "/proc/meminfo MemTotal (unified memory)")
        return ram.total_mb, ram.used_mb
    card.notes.warn(f"GPU {card.index}: memory size could not be read")
    return None, None


def _capability(card: Card) -> str | None:
    pair = card.tell("compute_capability", "nvmlDeviceGetCudaComputeCapability")
    return None if pair is None else f"{pair[0]}.{pair[1]}"


def _utilization(card: Card) -> float | None:
    rates = card.tell("utilization", "nvmlDeviceGetUtilizationRates")
    return None if rates is None else min(100, int(rates.gpu)) / 100


def _watts(card: Card, field: str, call: str) -> float | None:
    milliwatts = card.tell(field, call)
    return None if milliwatts is None else round(milliwatts / 1000, 1)


def _bandwidth(card: Card, name: str, vram_mb: int | None) -> float | None:
    """2 x memory clock x bus width / 8, GB/s; a table by name where NVML does not tell."""
    clock = card.quietly("nvmlDeviceGetMaxClockInfo", CLOCK_MEM)
    width = card.quietly("nvmlDeviceGetMemoryBusWidth")
    if clock and width:
        card.source("bandwidth_gb_s", "NVML memory clock and bus width")
        return round(2 * int(clock) * int(width) / 8 / 1000, 1)
    known = bandwidth_by_name(name, vram_mb)
    if known is None:
        card.notes.warn(f"GPU {card.index}: memory bandwidth is not told and not in the table ({name})")
        return None
    card.source("bandwidth_gb_s", "table by name")
    return known
