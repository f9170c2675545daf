"""Container limits are seen, in both cgroup versions, on recorded trees."""

from pathlib import Path

from gpu_orchestrator.host_memory import cgroup_limits, read_ram

MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_version_2_is_walked_to_the_root(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/app\n",
            "sys/fs/cgroup/pod/memory.max": f"{300 * MIB}\n",
            "sys/fs/cgroup/pod/memory.current": f"{120 * MIB}\n",
            "sys/fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {20 * MIB}\n",
            "sys/fs/cgroup/pod/app/memory.max": "max\n",
        },
    )
    assert cgroup_limits(root) == [(300 * MIB, 100 * MIB)]
    ram = read_ram(root)
    assert (ram.total_mb, ram.available_mb) == (300, 200)


def test_version_1_without_a_limit_is_the_machine(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/a\n0::/\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert cgroup_limits(root) == []


def test_version_1_inside_a_container(tmp_path: Path) -> None:
    """The path of the host is not there; the container's own cgroup is the mounted root."""
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(256 * MIB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(64 * MIB),
            "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 0\n",
            "proc/pressure/memory": "some avg10=1.50 avg60=0 avg300=0 total=1\nfull avg10=0\n",
        },
    )
    ram = read_ram(root)
    assert (ram.total_mb, ram.available_mb, ram.pressure) == (256, 192, 1.5)


def test_no_cgroup_at_all(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path) == []
    assert read_ram(tmp_path).total_mb > 0


def test_the_memory_of_a_coherent_gpu_is_not_ram(tmp_path: Path) -> None:
    """GH200: its HBM is a NUMA node without CPUs, and /proc/meminfo counts it."""
    kib = {"MemTotal": 600_000_000, "MemFree": 1, "MemAvailable": 500_000_000, "SwapTotal": 8_192_000}
    hbm = "Node 1 MemTotal:       100000000 kB\nNode 1 MemFree:        90000000 kB\n"
    root = write(
        tmp_path,
        {
            "proc/meminfo": "".join(f"{name}:  {size} kB\n" for name, size in kib.items()),
            "sys/devices/system/node/node0/cpulist": "0-71\n",
            "sys/devices/system/node/node0/meminfo": hbm.replace("Node 1", "Node 0"),
            "sys/devices/system/node/node1/cpulist": "\n",
            "sys/devices/system/node/node1/meminfo": hbm,
        },
    )
    ram = read_ram(root)
    assert (ram.total_mb, ram.available_mb) == (500_000_000 // 1024, 410_000_000 // 1024)
    assert (ram.swap_total_mb, ram.swap_free_mb) == (8_000, 0)


def test_the_machine_is_told_beside_the_container(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 1024000 kB\nMemAvailable: 512000 kB\nHugePages_Total: 0\nodd line\n",
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{300 * MIB}\n",
            "sys/fs/cgroup/memory.current": f"{100 * MIB}\n",
        },
    )
    ram = read_ram(root)
    assert (ram.total_mb, ram.available_mb, ram.machine_mb) == (300, 200, (1000, 500))
