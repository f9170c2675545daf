"""A deployment's files: refused early where they cannot be had, brought to its hosts before they start."""

import asyncio
import os
from pathlib import Path

import structlog

from compute_common.bus import Bus
from compute_common.enums import EngineKind
from compute_common.problems import Problem, conflict
from vllm_orchestrator.downloads.listing import folder_of
from vllm_orchestrator.downloads.part_files import (
    LEFT_TO_THE_ENGINE,
    LOOK_SECONDS,
    PartFiles,
    Told,
    path_of,
    progress_of,
)
from vllm_orchestrator.downloads.pulls import Pulls
from vllm_orchestrator.downloads.schemas import PullPhase, PullRequest
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.models.resolve import ModelFolder

log = structlog.get_logger("downloads")


class ModelFiles:
    """Of the instances on this host; the hosts of further parts are told to pull, too."""

    def __init__(self, pulls: Pulls, folder: ModelFolder, bus: Bus) -> None:
        self._pulls = pulls
        self._folder = folder
        self._parts = PartFiles(folder, bus)

    async def check(self, record: Record) -> None:
        """Refuse what cannot be had: Problem 403, 404, 409, 422 that says what to set."""
        ask = _missing(record)
        if ask is None:
            return
        try:
            await self._pulls.check(ask)
        except Problem as problem:
            if not _is_left(problem, record):
                raise

    async def bring(self, record: Record, told: Told) -> None:
        """Download what is missing and point the engines at it; `told()` after each look. Raises Problem."""
        ask = _missing(record)
        if ask is not None:
            path = self._planned_elsewhere(record) or await self._pulled(ask, record, told)
            if path is not None:
                _point_at(record, ask.model_name, path)
        await self._parts.bring(record, told)

    def _planned_elsewhere(self, record: Record) -> str | None:
        """The path here of a model that the host that planned the instance has at another one."""
        if not _model(record).startswith("/"):
            return None
        try:
            found = self._folder.resolve(record.model_name, record.request.get("model_path"))
        except Problem:
            return None
        form = found.gguf if record.engine is EngineKind.LLAMA_CPP else found.vllm
        return form.location if form is not None and form.location.startswith("/") else None

    async def _pulled(self, ask: PullRequest, record: Record, told: Told) -> str | None:
        """Where the files lie now; None where the engine is left to find them."""
        try:
            status = await self._pulls.begin(ask)
        except Problem as problem:
            if not _is_left(problem, record):
                raise
            log.warning("the engine fetches its model itself", model=ask.model_name, cause=problem.cause)
            return None
        while status.phase is PullPhase.DOWNLOADING:
            record.progress = progress_of([status])
            await told()
            await asyncio.sleep(LOOK_SECONDS)
        return await asyncio.to_thread(_loadable, Path(path_of(status)), record.engine)


def _loadable(path: Path, engine: EngineKind) -> str:
    """What the engine loads of a pulled model: the folder, or the GGUF file in it. Problem 409."""
    if engine is not EngineKind.LLAMA_CPP or path.is_file():
        return str(path)
    files = sorted(path.rglob("*.gguf"))
    if not files:
        raise conflict("no-usable-weights", f"there is no .gguf file in {path}")
    return str(files[0])


def _point_at(record: Record, name: str, path: str) -> None:
    was = _model(record)
    at = record.command.index(was)  # its served names come later
    record.command = [*record.command[:at], path, *record.command[at + 1 :]]
    record.config["model"] = path


def _model(record: Record) -> str:
    return str(record.config.get("model", ""))


def _is_left(problem: Problem, record: Record) -> bool:
    """Whether vLLM may find the model all the same."""
    its_own = record.engine is EngineKind.VLLM and not _model(record).startswith("/")
    return its_own and problem.cause in LEFT_TO_THE_ENGINE


def _missing(record: Record) -> PullRequest | None:
    """The pull that this host needs; None where the engine has what it loads."""
    model = _model(record)
    if not model or record.attached:
        return None
    if model.startswith("/"):
        if Path(model).exists():
            return None
        given = record.request.get("model_path") or "/"
        return PullRequest(model_name=record.model_name if given.startswith("/") else given)
    if record.engine is EngineKind.LLAMA_CPP:
        return PullRequest(model_name=model, quantization=record.request.get("quantization"))
    return None if _in_hub_cache(model) else PullRequest(model_name=model)


def _in_hub_cache(model: str) -> bool:
    """Whether vLLM finds it in the cache of huggingface_hub."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = cache / f"models--{folder_of(model)}" / "snapshots"
    return any(snapshots.glob("*/*.safetensors"))
