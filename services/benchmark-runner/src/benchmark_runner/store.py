"""Runs on disk: one JSON file each, replaced atomically."""

import os
from pathlib import Path

import structlog
from pydantic import ValidationError

from compute_common.ids import is_identifier
from compute_common.schemas.benchmark import Benchmark

log = structlog.get_logger("store")


class RunStore:
    """`folder` is made at the first write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, run: Benchmark) -> None:
        """A reader sees the old file or the new one, whole, even after a power cut. Raises OSError."""
        if not is_identifier(run.benchmark_id):
            raise ValueError("not a benchmark id")
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{run.benchmark_id}.json"
        draft = path.with_suffix(".json.tmp")
        with draft.open("wb") as file:
            file.write(run.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def remove(self, benchmark_id: str) -> None:
        """Delete a run's file; one that is not there, or cannot go, is left."""
        try:
            (self._folder / f"{benchmark_id}.json").unlink(missing_ok=True)
        except OSError as error:
            log.warning("result file stays", benchmark_id=benchmark_id, reason=type(error).__name__)

    def load(self) -> list[Benchmark]:
        """Every run that can be read, oldest first; others are named in the log and left alone."""
        runs = []
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []:
            try:
                runs.append(Benchmark.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                log.warning("result file unreadable", file=path.name, reason=type(error).__name__)
        return sorted(runs, key=lambda run: (run.created_at, run.benchmark_id))

    def writable(self) -> tuple[bool, str]:
        folder = self._folder
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return os.access(folder, os.W_OK), str(self._folder)
