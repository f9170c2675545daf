"""What a container really has, from recorded trees of both versions."""

from pathlib import Path

from resource_detector.findings import Notes
from resource_detector.sources.cgroups import Cgroups
from resource_detector.sources.cpu import read_cpu
from resource_detector.sources.memory import read_memory
from tests.unit.resource_detector.trees import MIB, cgroup_v1, cgroup_v2, host_tree


def test_no_group_is_the_whole_machine(tmp_path: Path) -> None:
    roots, notes = host_tree(tmp_path), Notes()
    memory = read_memory(roots.proc, Cgroups(roots.proc, roots.sys, notes), notes)
    assert (memory.total_mb, memory.available_mb, memory.swap_total_mb) == (24_000, 12_000, 2048)
    assert notes.sources["memory.total_mb"] == "/proc/meminfo MemTotal"
    assert notes.warnings == []


def test_version_2_walked_to_the_root(tmp_path: Path) -> None:
    roots, notes = host_tree(tmp_path), Notes()
    cgroup_v2(
        roots,
        "/pod/engine",
        {
            "pod/memory.max": f"{300 * MIB}",
            "pod/memory.current": f"{200 * MIB}",
            "pod/memory.stat": f"anon 1\ninactive_file {50 * MIB}\n",
            "pod/memory.swap.max": "0",
            "pod/engine/memory.max": "max",
            "pod/engine/cpu.max": "max 100000",
            "pod/cpu.max": "150000 100000",
        },
    )
    cgroups = Cgroups(roots.proc, roots.sys, notes)
    memory = read_memory(roots.proc, cgroups, notes)
    assert (memory.total_mb, memory.available_mb, memory.host_total_mb) == (300, 150, 24_000)
    assert (memory.swap_total_mb, memory.swap_free_mb) == (0, 0)
    assert notes.sources["memory.total_mb"] == "/sys/fs/cgroup/pod/memory.max"
    cpu = read_cpu(roots.proc, roots.sys, cgroups, notes)
    assert (cpu.threads, cpu.cores, cpu.host_threads) == (2, 2, 8)
    assert "1.5" in notes.sources["cpu.threads"]


def test_version_1_beside_an_empty_version_2(tmp_path: Path) -> None:
    roots, notes = host_tree(tmp_path), Notes()
    cgroup_v1(
        roots,
        "/docker/abc",
        {
            "memory.limit_in_bytes": "9223372036854771712",
            "docker/memory.limit_in_bytes": f"{4000 * MIB}",
            "docker/memory.usage_in_bytes": f"{1000 * MIB}",
            "docker/abc/memory.limit_in_bytes": "9223372036854771712",
        },
        {"docker/abc/cpu.cfs_quota_us": "400000", "docker/abc/cpu.cfs_period_us": "100000"},
    )
    cgroups = Cgroups(roots.proc, roots.sys, notes)
    assert read_memory(roots.proc, cgroups, notes).total_mb == 4000
    assert read_cpu(roots.proc, roots.sys, cgroups, notes).threads == 4


def test_only_a_part_of_the_tree_is_mounted(tmp_path: Path) -> None:
    """In a container the group is named from the host's root, of which a part is mounted."""
    roots, notes = host_tree(tmp_path), Notes()
    cgroup_v2(roots, "/docker/abc", {"memory.max": f"{512 * MIB}"}, mount_root="/docker/abc")
    assert read_memory(roots.proc, Cgroups(roots.proc, roots.sys, notes), notes).total_mb == 512


def test_a_limit_above_the_machine_is_none(tmp_path: Path) -> None:
    roots, notes = host_tree(tmp_path, memory_mb=1000), Notes()
    cgroup_v2(roots, "/a", {"a/memory.max": f"{64_000 * MIB}", "a/cpu.max": "9900000 100000"})
    cgroups = Cgroups(roots.proc, roots.sys, notes)
    assert read_memory(roots.proc, cgroups, notes).total_mb == 1000
    assert read_cpu(roots.proc, roots.sys, cgroups, notes).threads == 8


def test_nonsense_in_the_tree_costs_nothing_else(tmp_path: Path) -> None:
    roots, notes = host_tree(tmp_path), Notes()
    cgroup_v2(roots, "/../escape", {"memory.max": "many", "cpu.max": "", "memory.stat": "x"})
    cgroups = Cgroups(roots.proc, roots.sys, notes)
    assert read_memory(roots.proc, cgroups, notes).total_mb == 24_000
    assert cgroups.cpu_quota() is None
