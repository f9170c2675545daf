"""Processors: what the machine has and what this process may use of it."""

import math
import os
import re
from functools import partial
from pathlib import Path

from resource_detector.findings import CpuFound, Notes, NumaNode
from resource_detector.sources.cgroups import Cgroups

_MODEL_KEYS = ("model name", "Model", "Hardware", "cpu model", "uarch")


def read_cpu(proc_root: Path, sys_root: Path, cgroups: Cgroups, notes: Notes) -> CpuFound:
    """Cores, threads, model and frequency: the least of the machine, the cpuset and the quota."""
    blocks = _cpuinfo(proc_root, notes)
    listed = len(blocks) or os.cpu_count() or 1
    allowed = _allowed(proc_root, notes)
    mine = [block for block in blocks if allowed is None or _int(block.get("processor")) in allowed]
    threads = min(listed, len(allowed)) if allowed else listed
    notes.source("cpu.threads", "/proc/cpuinfo, Cpus_allowed_list")
    quota = cgroups.cpu_quota()
    cores = _physical_cores(mine, sys_root) or threads
    if quota is not None and math.ceil(quota[0]) < threads:
        threads = max(1, math.ceil(quota[0]))
        notes.source("cpu.threads", f"CPU quota of {quota[0]:g} in {quota[1]}")
    notes.source("cpu.cores", "/proc/cpuinfo" if blocks else "os.cpu_count")
    return CpuFound(
        cores=max(1, min(cores, threads)),
        threads=max(1, threads),
        host_threads=listed,
        model_name=_model(blocks, notes),
        frequency_mhz=_frequency(blocks, sys_root, notes),
        flags=frozenset((_first(blocks, "flags") or _first(blocks, "Features") or "").split()),
        numa=_numa(sys_root, notes),
    )


def parse_cpu_list(text: str) -> set[int]:
    """`0-3,8` as {0, 1, 2, 3, 8}; ValueError for anything else."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _numa(sys_root: Path, notes: Notes) -> tuple[NumaNode, ...]:
    """Each node's CPUs and memory; empty where the kernel knows no nodes."""
    found = []
    for folder in (sys_root / "devices/system/node").glob("node[0-9]*"):
        number = folder.name.removeprefix("node")
        node = notes.attempt(f"NUMA node {number}", partial(_numa_node, folder))
        if node is not None:
            found.append(node)
    if found:
        notes.source("host.numa_nodes", "/sys/devices/system/node")
    return tuple(sorted(found, key=lambda node: node.number))


def _numa_node(folder: Path) -> NumaNode:
    cpus = (folder / "cpulist").read_text().strip()
    total = re.search(r"MemTotal:\s+(\d+) kB", (folder / "meminfo").read_text())
    return NumaNode(
        number=int(folder.name.removeprefix("node")),
        cpus=len(parse_cpu_list(cpus)) if cpus else 0,
        memory_mb=int(total[1]) // 1024 if total else 0,
    )


def _cpuinfo(proc_root: Path, notes: Notes) -> list[dict[str, str]]:
    text = notes.attempt("cpuinfo", (proc_root / "cpuinfo").read_text) or ""
    blocks: list[dict[str, str]] = []
    shared: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        pairs = (line.partition(":") for line in paragraph.splitlines() if ":" in line)
        block = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in block:
            blocks.append(block)
        else:
            shared.update(block)  # arm: the model stands in a paragraph of its own
    return [{**shared, **block} for block in blocks]


def _allowed(proc_root: Path, notes: Notes) -> set[int] | None:
    text = notes.attempt("allowed CPUs", (proc_root / "self/status").read_text) or ""
    line = re.search(r"^Cpus_allowed_list:\s*(\S+)", text, re.MULTILINE)
    return notes.attempt("allowed CPUs", lambda: parse_cpu_list(line[1])) if line else None


def _physical_cores(blocks: list[dict[str, str]], sys_root: Path) -> int:
    named = {
        (block.get("physical id", "0"), block["core id"])
        for block in blocks
        if block.get("core id") is not None
    }
    if named:
        return len(named)
    found = set()
    for block in blocks:
        topology = sys_root / f"devices/system/cpu/cpu{block.get('processor')}/topology"
        try:
            package = (topology / "physical_package_id").read_text().strip()
            found.add((package, (topology / "core_id").read_text().strip()))
        except OSError:
            continue
    return len(found)


def _model(blocks: list[dict[str, str]], notes: Notes) -> str | None:
    for key in _MODEL_KEYS:
        if name := _first(blocks, key):
            notes.source("cpu.model_name", f"/proc/cpuinfo '{key}'")
            return name
    return None


def _frequency(blocks: list[dict[str, str]], sys_root: Path, notes: Notes) -> float | None:
    """The highest frequency in MHz: cpufreq's where there is one, else what cpuinfo shows now."""
    limit = sys_root / "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    try:
        notes.source("cpu.frequency_mhz", "/sys cpufreq cpuinfo_max_freq")
        return int(limit.read_text()) / 1000
    except (OSError, ValueError):
        shown = [value for block in blocks if (value := _float(block.get("cpu MHz")))]
    if not shown:
        notes.sources.pop("cpu.frequency_mhz", None)
        return None
    notes.source("cpu.frequency_mhz", "/proc/cpuinfo 'cpu MHz'")
    return max(shown)


def _first(blocks: list[dict[str, str]], key: str) -> str | None:
    return next((block[key] for block in blocks if block.get(key)), None)


def _int(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _float(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d+(\.\d+)?", text) else None
