"""What the standard library knows of this host, for a node that announces itself."""

import os
import socket
from pathlib import Path
from typing import Any


def host_document(meminfo: Path = Path("/proc/meminfo")) -> dict[str, Any]:
    """Host name, processors and memory (MiB); what cannot be read is left out."""
    document: dict[str, Any] = {
        "hostname": socket.gethostname() or "localhost",
        "platform": "cpu",
        "gpus": [],
    }
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if threads:
        document["cpu"] = {"cores": threads, "threads": threads}
    memory = _memory(meminfo)
    if memory:
        document["memory"] = memory
    return document


def _memory(meminfo: Path) -> dict[str, int]:
    names = {"MemTotal": "total_mb", "MemAvailable": "available_mb", "SwapTotal": "swap_total_mb"}
    found: dict[str, int] = {}
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        key, _, rest = line.partition(":")
        amount = rest.split()
        if key in names and amount and amount[0].isdigit():
            found[names[key]] = int(amount[0]) // 1024
    return found
