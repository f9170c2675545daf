"""The suite as a systemd user unit, so that it comes back after a reboot."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from compute_cli.console import fail, say
from compute_cli.invitation import joined
from compute_cli.service_unit import NAME, environment_text, unit_text
from compute_cli.suite import home_of
from compute_common.private_file import write_private

commands = typer.Typer(no_args_is_help=True, help="Bring the suite up at every boot (systemd user unit).")


@commands.command()
def install(
    start: Annotated[bool, typer.Option(help="And start it now.")] = True,
) -> None:
    """Write and enable the unit: `compute up`, or `compute up --host-only` on a machine that joined.

    The suite's variables that are set now are kept for it in $COMPUTE_HOME/service.env (mode 0600).
    """
    home = home_of(os.environ)
    home.mkdir(parents=True, exist_ok=True)
    host_only = ["--host-only"] if joined(home) else []
    argv = [sys.executable, "-m", "compute_cli.main", "up", *host_only]
    kept = home / "service.env"
    try:
        text = unit_text(argv, home, kept)
    except ValueError as error:
        raise fail(str(error)) from error
    write_private(kept, environment_text(os.environ))
    path = unit_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(path)
    _enable(start)


@commands.command()
def remove() -> None:
    """Stop and forget the unit; the state in COMPUTE_HOME stays (`compute down --purge` removes it)."""
    path = unit_path()
    there = path.exists()
    if there:
        _systemctl("disable", "--now", NAME)
        path.unlink()
        _systemctl("daemon-reload")
    (home_of(os.environ) / "service.env").unlink(missing_ok=True)
    say(f"{path} is removed" if there else "no unit is installed")


def unit_path() -> Path:
    """Where the user's units are."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "systemd" / "user" / NAME


def _enable(start: bool) -> None:
    now = ["--now"] if start else []
    words = " ".join(("systemctl --user enable", *now, NAME))
    if not _systemctl("daemon-reload"):
        say(f"no systemd user session answers here; in one: systemctl --user daemon-reload && {words}")
    elif not _systemctl("enable", *now, NAME):
        raise fail(f"systemd does not start it: systemctl --user status {NAME}")
    say("to have it run without anybody logged in: loginctl enable-linger")


def _systemctl(*words: str) -> bool:
    program = shutil.which("systemctl")
    if program is None:
        return False
    argv = [program, "--user", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=90)
    return done.returncode == 0
