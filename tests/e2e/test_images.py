"""What the images are made of can be had for arm64, too: such an image itself cannot be built here."""

import subprocess
from pathlib import Path

from tests.support.compose import ROOT

UV = ROOT / ".venv" / "bin" / "uv"


def resolve(lock: str, platform: str, target: Path) -> "subprocess.CompletedProcess[str]":
    """Looks for wheels of all that is locked, by their hashes, and installs nothing."""
    argv = [str(UV), "pip", "install", "--dry-run", "--only-binary", ":all:", "--no-deps", "--require-hashes"]
    argv += ["--python-platform", platform, "--python-version", "3.11", "--target", str(target), "-r", lock]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_every_locked_package_has_a_wheel_for_both_platforms(tmp_path: Path) -> None:
    for machine in ("x86_64", "aarch64"):
        done = resolve("requirements.lock", f"{machine}-manylinux_2_36", tmp_path)  # bookworm's glibc
        assert done.returncode == 0, done.stderr


def test_the_engine_has_one_for_amd64_alone(tmp_path: Path) -> None:
    """So the Dockerfile leaves it out elsewhere; when this fails, it need not."""
    assert resolve("requirements-engine.lock", "x86_64-manylinux_2_36", tmp_path).returncode == 0
    refused = resolve("requirements-engine.lock", "aarch64-manylinux_2_36", tmp_path)
    assert refused.returncode != 0
    assert "manylinux_2_35_x86_64" in refused.stderr
