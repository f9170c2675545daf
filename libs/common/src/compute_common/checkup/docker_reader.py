"""Reads whether Docker answers, and whether it can give GPUs to containers."""

import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from compute_common.checkup.facts import Docker, Reach

SOCKET = "/var/run/docker.sock"
ANSWER_SECONDS = 3.0
_TOOLKIT = ("nvidia-ctk", "nvidia-container-runtime", "nvidia-container-cli")
_CDI = (Path("/etc/cdi"), Path("/var/run/cdi"))


def read_docker(environ: Mapping[str, str]) -> Docker:
    """Through its socket; a DOCKER_HOST on another machine is not this host's Docker."""
    where = environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
    installed = shutil.which("docker") is not None
    if not where.startswith("unix://"):
        return Docker(Reach.SILENT if installed else Reach.ABSENT)
    socket = Path(where.removeprefix("unix://"))
    try:
        there = stat.S_ISSOCK(socket.stat().st_mode)
    except OSError:
        there = False
    if not there:
        return Docker(Reach.SILENT if installed else Reach.ABSENT)
    return _asked(socket, installed)


def _asked(socket: Path, installed: bool) -> Docker:
    import httpx  # noqa: PLC0415 - a service that is seldom asked does without

    transport = httpx.HTTPTransport(uds=str(socket))
    try:
        with httpx.Client(transport=transport, base_url="http://docker", timeout=ANSWER_SECONDS) as client:
            version = client.get("/version").json()
            about = client.get("/info").json()
    except httpx.ConnectError as error:
        denied = "permission" in str(error).lower()
        return Docker(Reach.DENIED if denied else Reach.SILENT)
    except (httpx.HTTPError, ValueError):
        return Docker(Reach.SILENT)
    runtimes = about.get("Runtimes") if isinstance(about, dict) else None
    return Docker(
        reach=Reach.ANSWERS,
        version=str(version.get("Version", "?"))[:64] if isinstance(version, dict) else "?",
        compose=_compose_version() if installed else None,
        toolkit=any(map(shutil.which, _TOOLKIT)),
        nvidia_runtime="nvidia" in (runtimes or {}) or _described(),
    )


def _compose_version() -> str | None:
    argv = ["docker", "compose", "version", "--short"]
    try:
        asked = subprocess.run(argv, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip()[:64] or None if asked.returncode == 0 else None


def _described() -> bool:
    """Whether NVIDIA's devices are described by the Container Device Interface."""
    return any(folder.is_dir() and any(folder.glob("nvidia*")) for folder in _CDI)
