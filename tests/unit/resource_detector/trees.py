"""Recorded /proc and /sys trees, written where a test wants them."""

from pathlib import Path

from resource_detector.detection import Roots

MIB = 1 << 20

CPUINFO = """\
processor\t: {cpu}
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9554 64-Core Processor
cpu MHz\t\t: 2{cpu}00.000
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu avx2 avx512f avx512_bf16
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def unpack(name: str, root: Path) -> None:
    """A tree of tests/data/trees: `=== path` begins a file, `#` the remark at the top."""
    text = (Path(__file__).parents[2] / f"data/trees/{name}.txt").read_text()
    parts = text.split("\n=== ")[1:]
    write(root, {path: content + "\n" for path, _, content in (part.partition("\n") for part in parts)})


def host_tree(root: Path, threads: int = 8, memory_mb: int = 24_000, allowed: str = "") -> Roots:
    """A plain Linux host, two threads a core, without control groups."""
    blocks = [CPUINFO.format(cpu=number, core=number // 2) for number in range(threads)]
    write(
        root / "proc",
        {
            "cpuinfo": "\n".join(blocks),
            "meminfo": f"MemTotal: {memory_mb * 1024} kB\nMemAvailable: {memory_mb * 512} kB\n"
            "SwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n",
            "self/status": f"Name:\tpython\nCpus_allowed_list:\t{allowed or f'0-{threads - 1}'}\n",
            "self/cgroup": "",
            "self/mountinfo": "",
            "version": "Linux version 6.1.0",
            "sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
        },
    )
    (root / "sys").mkdir(exist_ok=True)
    return Roots(root / "proc", root / "sys")


def cgroup_v2(roots: Roots, group: str, files: dict[str, str], mount_root: str = "/") -> None:
    """A version 2 hierarchy; `files` are relative to the mount point."""
    write(
        roots.proc,
        {
            "self/cgroup": f"0::{group}\n",
            "self/mountinfo": f"30 23 0:26 {mount_root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
        },
    )
    write(roots.sys / "fs/cgroup", files)


def cgroup_v1(roots: Roots, group: str, memory: dict[str, str], cpu: dict[str, str]) -> None:
    """Version 1 beside an empty version 2 tree, as Docker without systemd mounts them."""
    mounts = [
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct",
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
    ]
    write(
        roots.proc,
        {
            "self/cgroup": f"4:memory:{group}\n1:cpu,cpuacct:{group}\n0::/\n",
            "self/mountinfo": "\n".join(mounts) + "\n",
        },
    )
    write(roots.sys / "fs/cgroup/memory", memory)
    write(roots.sys / "fs/cgroup/cpu", cpu)


def amd_card(roots: Roots, number: int, vram_mb: int, gfx: int, **files: str) -> None:
    """One card of the amdgpu driver with its KFD node."""
    device = f"class/drm/card{number}/device"
    minor = 128 + number
    write(
        roots.sys,
        {
            f"{device}/vendor": "0x1002\n",
            f"{device}/mem_info_vram_total": f"{vram_mb * MIB}\n",
            f"{device}/mem_info_vram_used": f"{1000 * MIB}\n",
            f"{device}/gpu_busy_percent": "37\n",
            f"{device}/unique_id": f"b0c1d2e3f4a5960{number}\n",
            f"{device}/drm/renderD{minor}/dev": "226:128\n",
            f"class/kfd/kfd/topology/nodes/{number + 1}/properties": f"cpu_cores_count 0\n"
            f"gfx_target_version {gfx}\ndrm_render_minor {minor}\n",
            **{f"{device}/{name}": text for name, text in files.items()},
        },
    )
