"""The systemd unit: what is put in comes out, and nothing can be smuggled into it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_cli.purge import remove, state_in
from compute_cli.service_unit import environment_text, unit_text

FOLDERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=40)


def test_the_unit(tmp_path: Path) -> None:
    home = tmp_path / "a home % $HOME"
    text = unit_text(
        [sys.executable, "-m", "compute_cli.main", "up", "--host-only"], home, home / "service.env"
    )
    assert f'ExecStart="{sys.executable}" "-m" "compute_cli.main" "up" "--host-only"' in text
    assert f'Environment="COMPUTE_HOME={tmp_path}/a home %% $HOME"' in text
    assert f"EnvironmentFile=-{tmp_path}/a home %% $HOME/service.env" in text
    assert "WantedBy=default.target" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_it(tmp_path: Path) -> None:
    home = tmp_path / 'quote" back\\slash %h $HOME'
    home.mkdir()
    unit = tmp_path / "compute.service"
    unit.write_text(unit_text([sys.executable, "-m", "compute_cli.main", "up"], home, home / "service.env"))
    argv = [str(shutil.which("systemd-analyze")), "--user", "--man=no", "verify", str(unit)]
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@given(FOLDERS, st.text(max_size=40))
def test_no_name_adds_a_line(folder: str, word: str) -> None:
    plain = unit_text(["/bin/true", "x"], Path("/home/a"), Path("/home/a/e"))
    try:
        text = unit_text(["/bin/true", word], Path("/home") / folder, Path("/home/a/e"))
    except ValueError:
        return
    assert [line.split("=")[0] for line in text.splitlines()] == [
        line.split("=")[0] for line in plain.splitlines()
    ]


@pytest.mark.parametrize(
    "folder", ["/home/a\nExecStart=/bin/sh", "/home/a\r", "relative", "/home/a\\", "/home/a "]
)
def test_a_home_that_no_unit_can_hold_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="systemd"):
        unit_text(["/bin/true"], Path(folder), Path("/home/a/e"))


def test_only_the_suites_variables_are_kept_and_each_on_its_line() -> None:
    environ = {
        "NATS_PASSWORD": 'a"b\\c$d`e',
        "COMPUTE_HOME": "/home/a",
        "AWS_SECRET_ACCESS_KEY": "x",
        "NODE_ID": "box\nLD_PRELOAD=/tmp/x",
        "PATH": "/bin",
    }
    assert environment_text(environ) == 'NATS_PASSWORD="a\\"b\\\\c\\$d\\`e"\nPATH="/bin"\n'


def test_purging_leaves_what_is_not_the_suites(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "models of mine"
    outside.mkdir()
    (outside / "big.gguf").write_text("x")
    home.mkdir()
    (home / "models").symlink_to(outside)
    (home / "nats" / "deep").mkdir(parents=True)
    (home / "nats" / "deep" / "file").write_text("x")
    (home / "thesis.txt").write_text("x")
    assert [path.name for path in state_in(home)] == ["models", "nats"]
    assert [path.name for path in remove(state_in(home), home)] == ["thesis.txt"]
    assert (outside / "big.gguf").exists()
    (home / "thesis.txt").unlink()
    (home / "run").mkdir()
    assert remove(state_in(home), home) == []
    assert not home.exists()
    assert state_in(home) == []
