"""Keeps the files of TENSORZERO_CONFIG_DIR like the ready instances, and has the gateway read them anew."""

import asyncio
import os
import shlex
import time
import tomllib
from pathlib import Path

import structlog

from compute_common.access.engine_hosts import EngineHosts
from compute_common.tasks import every
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.tensorzero.fragment import PREFIX, fragments

log = structlog.get_logger("tensorzero")

LOOK_SECONDS = 1.0
RELOAD_SECONDS = 30
AGAIN_SECONDS = 30.0


class Registrar:
    """Compares, so that nothing is missed: no failure here reaches a deployment, and each heals by itself."""

    def __init__(
        self, table: InstanceTable, folder: Path, reload_command: str, reachable: EngineHosts
    ) -> None:
        self._table = table
        self._folder = folder
        self._reachable = reachable
        self._reload = shlex.split(reload_command)
        self._to_reload = False
        self._not_before = 0.0
        self._said = ""

    async def run(self) -> None:
        """Follow the table until cancelled."""
        await every(LOOK_SECONDS, self.look)

    async def look(self) -> None:
        """Write what changed; run the reload command once for all of it, again later when it failed."""
        wanted = fragments(r for r in self._table.all() if self._reachable.allow(r.endpoints.api))
        try:
            changed = await asyncio.to_thread(_follow, self._folder, wanted)
        except OSError as error:
            self._say(f"TENSORZERO_CONFIG_DIR cannot be written: {error.strerror}")
            return
        self._to_reload = bool(self._reload) and (self._to_reload or changed)
        if self._to_reload and (changed or time.monotonic() >= self._not_before):
            self._to_reload = not await self._reloaded()
            self._not_before = time.monotonic() + AGAIN_SECONDS

    async def _reloaded(self) -> bool:
        """Whether the command ended well. Its output may hold secrets and is not read."""
        quiet = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *self._reload, stdin=quiet, stdout=quiet, stderr=quiet
            )
        except OSError as error:
            self._say(f"TENSORZERO_RELOAD_COMMAND cannot be run: {error.strerror}")
            return False
        try:
            code = await asyncio.wait_for(process.wait(), RELOAD_SECONDS)
        except TimeoutError:
            self._say(f"TENSORZERO_RELOAD_COMMAND did not end within {RELOAD_SECONDS} s")
            return False
        finally:
            if process.returncode is None:
                process.kill()
        if code:
            self._say(f"TENSORZERO_RELOAD_COMMAND ended with {code}")
        else:
            self._said = ""
            log.info("TensorZero told to reload")
        return code == 0

    def _say(self, reason: str) -> None:
        if reason != self._said:
            log.warning("TensorZero is not up to date", reason=reason)
        self._said = reason


def _follow(folder: Path, wanted: dict[str, str]) -> bool:
    """Make our files in `folder` be `wanted`; whether anything changed. Others' files are not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = False
    for path in folder.glob(f"{PREFIX}*.toml"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)
            changed = True
    for name, content in wanted.items():
        path = folder / name
        if _read(path) == content:
            continue
        tomllib.loads(content)  # one file that is not TOML would stop the gateway from starting
        draft = folder / f".{name}.{os.getpid()}"  # no *.toml: nobody reads half of it
        draft.write_text(content, "utf-8")
        draft.replace(path)
        changed = True
    return changed


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
