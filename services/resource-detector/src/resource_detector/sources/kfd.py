"""AMD's topology in /sys/class/kfd: gfx targets and XGMI links."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compute_common.nvlink import LinkFound

XGMI = 11  # HSA_IOLINK_TYPE_XGMI; 2 is PCIe
MOST_LINKS = 64


@dataclass(frozen=True)
class KfdNode:
    number: int
    target: str
    xgmi_to: tuple[int, ...]


def read_nodes(sys_root: Path) -> dict[int, KfdNode]:
    """The GPU nodes by their DRM render minor."""
    found = {}
    for folder in (sys_root / "class/kfd/kfd/topology/nodes").glob("[0-9]*"):
        values = properties(folder / "properties")
        version, minor = values.get("gfx_target_version", 0), values.get("drm_render_minor", 0)
        if version > 0 and minor > 0:
            found[minor] = KfdNode(int(folder.name), gfx_name(version), _xgmi(folder))
    return found


def links_of(node: KfdNode, index_of: Mapping[int, int]) -> tuple[LinkFound, ...]:
    """Its XGMI links to GPUs we know; `index_of` is the GPU's index by KFD node."""
    reached = sorted({index_of[number] for number in node.xgmi_to if number in index_of})
    return tuple(LinkFound(index, "xgmi") for index in reached)


def gfx_name(version: int) -> str:
    """KFD's 90010 as gfx90a, 90402 as gfx942, 110000 as gfx1100."""
    major, minor, stepping = version // 10_000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}"


def properties(path: Path) -> dict[str, int]:
    """`name number` lines; empty where the file cannot be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if " " in line)
    return {name: int(value) for name, value in pairs if value.isascii() and value.isdigit()}


def _xgmi(folder: Path) -> tuple[int, ...]:
    links = (properties(path) for path in sorted((folder / "io_links").glob("*/properties"))[:MOST_LINKS])
    return tuple(link["node_to"] for link in links if link.get("type") == XGMI and "node_to" in link)
