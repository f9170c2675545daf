"""A deployment's files: refused early where they cannot be had, brought before its engine starts."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from compute_common.problems import Problem
from compute_common.schemas.vllm import StartProgress
from vllm_orchestrator.downloads.listing import folder_of
from vllm_orchestrator.downloads.pulls import Pulls
from vllm_orchestrator.downloads.schemas import PullPhase, PullRequest, PullStatus
from vllm_orchestrator.instances.record import Record

log = structlog.get_logger("downloads")

LOOK_SECONDS = 0.5
# The engine may still have the model in a cache of its own, or a way to it that we do not know.
LEFT_TO_THE_ENGINE = frozenset({"hub-unreachable", "hub-nonsense", "models-read-only"})


class ModelFiles:
    """Of instances on one host; the parts of a larger one each let vLLM fetch what they need."""

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls

    async def check(self, record: Record) -> None:
        """Refuse what cannot be had: Problem 403, 404, 409, 422 that says what to set."""
        name = _missing(record)
        if name is None:
            return
        try:
            await self._pulls.check(PullRequest(model_name=name))
        except Problem as problem:
            if problem.cause not in LEFT_TO_THE_ENGINE:
                raise

    async def bring(self, record: Record, told: Callable[[], Awaitable[None]]) -> None:
        """Download what is missing and point the engine at it; `told()` after each look. Raises Problem."""
        name = _missing(record)
        if name is None:
            return
        try:
            status = await self._pulls.begin(PullRequest(model_name=name))
        except Problem as problem:
            if problem.cause not in LEFT_TO_THE_ENGINE:
                raise
            log.warning("the engine fetches its model itself", model=name, cause=problem.cause)
            return
        while status.phase is PullPhase.DOWNLOADING:
            record.progress = _progress(status)
            await told()
            await asyncio.sleep(LOOK_SECONDS)
        if status.phase is PullPhase.FAILED or status.path is None:
            raise Problem(502, "download-failed", f"the model could not be downloaded: {status.error}")
        at = record.command.index(name)  # its served names come later
        record.command = [*record.command[:at], status.path, *record.command[at + 1 :]]
        record.config["model"] = status.path


def _progress(status: PullStatus) -> StartProgress:
    percent = 100 * status.bytes_done / max(1, status.bytes_total)
    return StartProgress(phase="downloading", percent=round(percent, 1), bytes=status.bytes_done)


def _missing(record: Record) -> str | None:
    """The Hub id whose files this host lacks; None where the engine has what it needs."""
    model = str(record.config.get("model", ""))
    if not model or model.startswith("/") or record.attached or len(record.placement) != 1:
        return None
    return None if _in_hub_cache(model) else model


def _in_hub_cache(model: str) -> bool:
    """Whether vLLM finds it in the cache of huggingface_hub."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = cache / f"models--{folder_of(model)}" / "snapshots"
    return any(snapshots.glob("*/*.safetensors"))
