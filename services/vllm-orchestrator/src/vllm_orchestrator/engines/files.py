"""What this host keeps of its engines: `$COMPUTE_HOME/engines/<instance>.json`, and their logs."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from compute_common.ids import check_identifier, is_identifier
from vllm_orchestrator.engines.process import EngineProcess

MAX_LOG_BYTES = 32 << 20
MAX_TAIL_BYTES = 256 << 10


@dataclass(frozen=True)
class EngineFile:
    """A running engine as others read it (`compute up` ends these groups when it ends)."""

    instance_name: str
    pid: int
    start_time: float
    port: int
    argv: list[str]
    epoch: int
    shared_memory: dict[str, int] = field(default_factory=dict)  # name → inode under /dev/shm

    @property
    def process(self) -> EngineProcess:
        return EngineProcess(self.pid, self.start_time)


class EngineFiles:
    """The engine files and logs under one COMPUTE_HOME. Names are identifiers, so no path escapes it."""

    def __init__(self, home: Path) -> None:
        self._engines = home / "engines"
        self._logs = home / "logs"
        self._containers = home / "containers"

    def log(self, name: str) -> Path:
        return self._logs / f"engine-{check_identifier(name)}.log"

    def write(self, file: EngineFile) -> None:
        """Atomically, so that a reader never sees half of it."""
        self._engines.mkdir(parents=True, exist_ok=True)
        path = self._path(file.instance_name)
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(file)))
        draft.replace(path)

    def read(self, name: str) -> EngineFile | None:
        """The file of one engine; None when there is none or it is not whole."""
        try:
            return EngineFile(**json.loads(self._path(name).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def all(self) -> list[EngineFile]:
        names = [path.stem for path in self._engines.glob("*.json") if is_identifier(path.stem)]
        return [file for file in map(self.read, names) if file is not None]

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._path(name).unlink()

    def tail(self, name: str, lines: int) -> list[str]:
        """The last lines of an engine's log, at most 256 KiB of them."""
        try:
            with self.log(name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - MAX_TAIL_BYTES))
                text = file.read(MAX_TAIL_BYTES).decode("utf-8", "replace")
        except OSError:
            return []
        return text.splitlines()[-lines:]

    def size(self, name: str) -> int:
        """Bytes of an engine's log; 0 without one."""
        try:
            return self.log(name).stat().st_size
        except OSError:
            return 0

    def written(self, name: str) -> float:
        """When an engine's log last grew, in seconds since the epoch; 0 without one."""
        try:
            return self.log(name).stat().st_mtime
        except OSError:
            return 0.0

    def since(self, name: str, offset: int) -> tuple[list[str], int]:
        """Whole lines added after `offset` and where to go on; from the start when the log was emptied."""
        if offset > self.size(name):
            offset = 0
        try:
            with self.log(name).open("rb") as file:
                file.seek(offset)
                added = file.read(MAX_TAIL_BYTES)
        except OSError:
            return [], offset
        whole = added[: added.rfind(b"\n") + 1] if len(added) < MAX_TAIL_BYTES else added
        return whole.decode("utf-8", "replace").splitlines(), offset + len(whole)

    def note_container(self, name: str, container: str) -> None:
        """Name an engine's container to others (`compute up` removes it when it ends)."""
        self._containers.mkdir(parents=True, exist_ok=True)
        (self._containers / check_identifier(name)).write_text(container)

    def forget_container(self, name: str, container: str) -> None:
        """Unless the name means a later one by now."""
        note = self._containers / check_identifier(name)
        with suppress(FileNotFoundError):
            if note.read_text() == container:
                note.unlink()

    def bound_log(self, name: str) -> None:
        """Empty a log that has grown too large; the engine appends, so it goes on at the start."""
        with suppress(OSError):
            if self.log(name).stat().st_size > MAX_LOG_BYTES:
                os.truncate(self.log(name), 0)

    def _path(self, name: str) -> Path:
        return self._engines / f"{check_identifier(name)}.json"
