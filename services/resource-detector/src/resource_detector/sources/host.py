"""The host around the hardware: names, system, addresses, disks."""

import contextlib
import platform
import shutil
import socket
from pathlib import Path

from compute_common.settings import in_container
from resource_detector.findings import Disk, HostFound, Interface, Notes

MIB = 1 << 20
MOST_INTERFACES = 32
_NOT_OF_THE_HOST = ("lo", "veth", "docker", "br-", "virbr", "cni", "flannel")
_SOURCES = {
    "hostname": "gethostname",
    "host.os": "uname",
    "host.machine": "uname",
    "host.kernel": "uname",
    "host.wsl": "/proc/version",
    "boot_id": "/proc/sys/kernel/random/boot_id",
    "ipv4": "the address of the default route",
    "network": "psutil (interfaces that are up)",
    "disks": "statvfs",
}


def read_host(proc_root: Path, hostname: str, disk_paths: list[Path], notes: Notes) -> HostFound:
    """Host name, operating system, boot id, addresses and disks."""
    kernel = platform.release()
    version = notes.attempt("kernel version", (proc_root / "version").read_text) or kernel
    for name, where in _SOURCES.items():
        notes.source(name, where)
    if hostname:
        notes.source("hostname", "NODE_HOSTNAME")
    return HostFound(
        hostname=hostname or socket.gethostname() or "localhost",
        os=platform.system().lower(),
        machine=platform.machine(),
        kernel=kernel,
        boot_id=_boot_id(proc_root, notes),
        wsl="microsoft" in version.lower(),
        container=in_container(),
        ipv4=_primary_ipv4(),
        interfaces=tuple(notes.attempt("network interfaces", _interfaces) or ()),
        disks=tuple(_disks(disk_paths)),
    )


def _boot_id(proc_root: Path, notes: Notes) -> str | None:
    text = notes.attempt("boot id", (proc_root / "sys/kernel/random/boot_id").read_text)
    return text.strip()[:64] if text else None


def _primary_ipv4() -> str | None:
    """The address packets to the world would leave from; none is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return None


def _interfaces() -> list[Interface]:
    import psutil  # noqa: PLC0415 - counted against the memory of the service only where used

    states = psutil.net_if_stats()
    found = []
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        state = states.get(name)
        if name.startswith(_NOT_OF_THE_HOST) or state is None or not state.isup:
            continue
        ipv4 = next((item.address for item in addresses if item.family == socket.AF_INET), None)
        found.append(Interface(name, ipv4, state.speed if 0 < state.speed < 1_000_000 else None))
    return found[:MOST_INTERFACES]


def _disks(paths: list[Path]) -> list[Disk]:
    found: list[Disk] = []
    for path in paths:
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(path)
            found.append(Disk(path.as_posix(), usage.total // MIB, usage.free // MIB))
    return found
