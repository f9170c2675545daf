"""Which versions of the suite the online nodes run, and what to say when there are several. Pure."""

import re
from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from compute_common import __version__
from node_registry.rows import Row

MOST_VERSIONS = 16
_FORM = re.compile(r"(\d{1,4})\.(\d{1,4})\.\d{1,4}[0-9A-Za-z.+-]{0,32}")


def versions_of(rows: Iterable[Row]) -> dict[str, int]:
    """Online nodes by version, the most frequent first; plain workers have none, and no other form counts."""
    told = (row.record.document.compute_version for row in rows if row.is_online)
    tally = Tally(version for version in told if version and _FORM.fullmatch(version))
    return dict(sorted(tally.items(), key=lambda each: (-each[1], each[0]))[:MOST_VERSIONS])


def mixed(versions: Mapping[str, int], own: str = __version__) -> str | None:
    """The warning of a mixed cluster, this registry (`own`) among them; None where all run one version."""
    every = sorted({*versions, own}, key=_release)
    if len(every) == 1:
        return None
    found = ", ".join(f"{version} on {count} nodes" for version, count in versions.items())
    far = (
        _release(every[-1])[0] != _release(every[0])[0] or _release(every[-1])[1] - _release(every[0])[1] > 1
    )
    advice = (
        "more than one minor version apart, which is not supported: upgrade the oldest first"
        if far
        else "neighbours work together: go on with the upgrade"
    )
    return f"the cluster is mixed: {found}, this registry {own}; {advice}"


def _release(version: str) -> tuple[int, int, str]:
    form = _FORM.fullmatch(version)
    return (int(form[1]), int(form[2]), version) if form else (0, 0, version)
