"""Machines worth testing, as their drivers tell of them. Memory sizes as in tests/data/gpus.csv."""

from dataclasses import replace

from tests.support.nvml import (
    DRIVER_NOT_LOADED,
    MIB,
    NO_PERMISSION,
    NOT_SUPPORTED,
    VERSION_MISMATCH,
    Gpu,
    Scenario,
    Slice,
)

LINKS_H100 = 18


def uuid(number: int) -> str:
    return f"GPU-{number:08x}-0000-4000-8000-{number:012x}"


def card(index: int, name: str, memory_mib: int | None, capability: str, **values: int | str) -> Gpu:
    """A card that tells everything a data-centre driver tells."""
    told: dict[str, int | str] = {
        "capability": capability,
        "pci": f"00000000:{0x10 + index:02X}:00.0",
        "utilization": 25,
        "temperature_c": 41,
        "power_mw": 120_500,
        "power_limit_mw": 700_000,
        "pcie_generation": 5,
        "pcie_width": 16,
        "ecc": 1,
        "mig": 0,
    }
    return Gpu(name, uuid(index), memory_mib, 600, {**told, **values})


def consumer(index: int, name: str, memory_mib: int, capability: str, **values: int | str) -> Gpu:
    """A GeForce: no ECC, no MIG, no NVLink."""
    full = card(index, name, memory_mib, capability, pcie_generation=4, power_limit_mw=450_000, **values)
    return replace(full, values={key: full.values[key] for key in full.values if key not in ("ecc", "mig")})


H100 = card(0, "NVIDIA H100 80GB HBM3", 81559, "9.0", memory_clock_mhz=2619, memory_bus_bits=5120)
RTX_4090 = consumer(0, "NVIDIA GeForce RTX 4090", 24564, "8.9", memory_clock_mhz=10501, memory_bus_bits=384)
RTX_3090 = consumer(1, "NVIDIA GeForce RTX 3090", 24576, "8.6", memory_clock_mhz=9751, memory_bus_bits=384)


def at(index: int, gpu: Gpu) -> Gpu:
    """The same card in another slot."""
    return replace(gpu, uuid=uuid(index), values={**gpu.values, "pci": f"00000000:{0x10 + index:02X}:00.0"})


def h100_x8() -> Scenario:
    """An HGX board: each GPU 18 links to the switches."""
    return Scenario(tuple(replace(at(n, H100), links=("switch",) * LINKS_H100) for n in range(8)))


def unlike_pair() -> Scenario:
    return Scenario((at(0, RTX_4090), at(1, RTX_3090)))


def bridged_pair() -> Scenario:
    """Two 3090 with a bridge of four links, one of them down, and a card outside it."""
    pair = [replace(at(n, RTX_3090), links=(1 - n, 1 - n, 1 - n, "down")) for n in (0, 1)]
    return Scenario((*pair, at(2, RTX_4090)))


def mig() -> Scenario:
    """One H100 cut in three, and a whole one beside it."""
    profiles = (("3g.40gb", 3, 40448), ("2g.20gb", 2, 20096), ("1g.10gb", 1, 9856))
    slices = tuple(
        Slice(
            f"NVIDIA H100 80GB HBM3 MIG {profile}",
            f"MIG-{number:08x}-0000-5000-8000-000000000001",
            mib,
            20,
            {"gpu_slices": share, "gpu_instance": number + 1, "compute_instance": 0},
        )
        for number, (profile, share, mib) in enumerate(profiles)
    )
    cut = replace(
        at(0, H100),
        values={**at(0, H100).values, "mig": 1},
        slices=slices,
        errors={"nvmlDeviceGetUtilizationRates": NOT_SUPPORTED},
    )
    return Scenario((cut, at(1, H100)))


def gb10(zero: bool = False) -> Scenario:
    """DGX Spark: unified memory, both memory calls NotSupported (or success with 0)."""
    spark = card(0, "NVIDIA GB10", 0 if zero else None, "12.1")
    kept = ("capability", "pci", "utilization", "temperature_c", "power_mw")
    return Scenario(
        (replace(spark, used_mib=0, values={key: spark.values[key] for key in kept}),), cuda=13000
    )


def lost(number: int = 1) -> Scenario:
    """8 × H100, one of which answers every call with GPU_IS_LOST."""
    whole = h100_x8()
    return replace(
        whole, gpus=tuple(replace(gpu, lost=index == number) for index, gpu in enumerate(whole.gpus))
    )


def mismatch() -> Scenario:
    """The driver was upgraded under the running kernel module: error 18 until a reboot."""
    return Scenario((RTX_4090,), errors={"nvmlInit": VERSION_MISMATCH})


def no_driver() -> Scenario:
    return Scenario(errors={"nvmlInit": DRIVER_NOT_LOADED})


def no_permission() -> Scenario:
    return Scenario((RTX_4090,), errors={"nvmlInit": NO_PERMISSION})


def no_gpus() -> Scenario:
    return Scenario()


def old_driver() -> Scenario:
    """A 450 series driver: no versioned calls, no MIG, no bus width; its total is smaller (40,536 MiB)."""
    bridge = [
        replace(
            card(n, "A100-SXM4-40GB", 40536, "8.0", memory_clock_mhz=1215, pcie_generation=4),
            links=("switch",) * 12,
        )
        for n in (0, 1)
    ]
    return Scenario(tuple(bridge), driver="450.51.06", cuda=11000, old_driver=True)


def wsl() -> Scenario:
    """A GeForce under WSL2: no power, no NVLink, no processes, no bus width."""
    told = {key: RTX_4090.values[key] for key in ("capability", "pci", "utilization", "temperature_c")}
    return Scenario((replace(RTX_4090, values={**told, "no_processes": 1}),), driver="566.36")


def jetson() -> Scenario:
    """JetPack 6: NVML knows the name and little else."""
    return Scenario((Gpu("Orin (nvgpu)", uuid(0), None),), driver="540.4.0", cuda=12060)


def gh200() -> Scenario:
    """Its "480GB" is CPU memory; the GPU has 96 GB of HBM."""
    return Scenario(
        (card(0, "NVIDIA GH200 480GB", 97871, "9.0", memory_clock_mhz=2619, memory_bus_bits=6144),)
    )


def resized(scenario: Scenario, index: int, memory_mib: int, used_mib: int = 0) -> Scenario:
    """The same machine with another memory size (or use) on one card."""
    gpus = list(scenario.gpus)
    gpus[index] = replace(gpus[index], memory_mib=memory_mib, used_mib=used_mib)
    return replace(scenario, gpus=tuple(gpus))


def busy(scenario: Scenario, index: int, pid: int, used_mib: int) -> Scenario:
    """The same machine with a process on one card."""
    gpus = list(scenario.gpus)
    gpu = gpus[index]
    processes = {**gpu.processes, pid: used_mib * MIB}
    gpus[index] = replace(gpu, used_mib=gpu.used_mib + used_mib, processes=processes)
    return replace(scenario, gpus=tuple(gpus))
