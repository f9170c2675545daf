"""The suite has one version: `compute_common.__version__`."""

import re
import tomllib
from pathlib import Path

from compute_common import __version__

ROOT = Path(__file__).parents[3]
SOURCE = "libs/common/src/compute_common/__init__.py"


def test_every_member_takes_its_version_from_the_one_place() -> None:
    members = sorted(ROOT.glob("libs/*/pyproject.toml")) + sorted(ROOT.glob("services/*/pyproject.toml"))
    assert len(members) == 10
    for file in members:
        described = tomllib.loads(file.read_text())
        assert described["project"]["dynamic"] == ["version"], file
        named = file.parent / described["tool"]["hatch"]["version"]["path"]
        assert named.resolve() == ROOT / SOURCE, file


def test_the_images_the_root_and_the_changelog_name_it_too() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
    for file in [ROOT / "docker-compose.yml", *sorted((ROOT / "deploy").glob("compose.*.yml"))]:
        tags = set(re.findall(r"image: compute/[a-z-]+:(\S+)", file.read_text()))
        assert tags <= {__version__}, file
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] in {__version__, "Unreleased"}
