"""The files of an instance over several hosts, on each host but the head: pulled there before it starts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.vllm import StartProgress
from vllm_orchestrator.downloads.schemas import PullPhase, PullStatus
from vllm_orchestrator.instances.record import RankPart, Record
from vllm_orchestrator.models.resolve import ModelFolder

LOOK_SECONDS = 0.5
ASK_SECONDS = 60  # the Hub is asked before the answer
# The engine may still have the model in a cache of its own, or a way to it that we do not know.
LEFT_TO_THE_ENGINE = frozenset({"hub-unreachable", "hub-nonsense", "models-read-only"})

Told = Callable[[], Awaitable[None]]


class PartFiles:
    """Asks the other hosts' orchestrators; each answers where the model lies there."""

    def __init__(self, folder: ModelFolder, bus: Bus) -> None:
        self._folder = folder
        self._bus = bus

    async def bring(self, record: Record, told: Told) -> None:
        """Pull to every further host, and point its part at the files. Problem that names the host."""
        name = self._name(str(record.config.get("model", ""))) if record.ranks else None
        if name is None:
            return
        parts = {part.node_id: part for part in record.ranks}
        begun = await asyncio.gather(*(self._begin(part, name) for part in parts.values()))
        coming = [status for status in begun if status is not None]
        while any(status.phase is PullPhase.DOWNLOADING for status in coming):
            record.progress = progress_of(coming)
            await told()
            await asyncio.sleep(LOOK_SECONDS)
            coming = list(await asyncio.gather(*map(self._look, coming)))
        for status in coming:
            part = parts[status.node_id]
            part.arguments = [part.arguments[0], path_of(status), *part.arguments[2:]]

    def _name(self, model: str) -> str | None:
        """What another host pulls: a Hub id, or the model's place under this host's root."""
        if not model.startswith("/"):
            return model or None
        return self._folder.name_of(Path(model))

    async def _begin(self, part: RankPart, name: str) -> PullStatus | None:
        """None where its vLLM is left to find the model."""
        try:
            return await self._ask(part.node_id, {"model_name": name})
        except Problem as problem:
            if problem.cause in LEFT_TO_THE_ENGINE and not part.arguments[1].startswith("/"):
                return None
            problem.detail = f"the model cannot come to node '{part.node_id}': {problem.detail}"
            raise

    async def _look(self, status: PullStatus) -> PullStatus:
        if status.phase is not PullPhase.DOWNLOADING:
            return status
        return await self._ask(status.node_id, {"pull_id": status.pull_id})

    async def _ask(self, node_id: str, body: Mapping[str, object]) -> PullStatus:
        subject = subjects.vllm_subject("pull", node_id)
        return PullStatus.model_validate(await self._bus.request(subject, body, ASK_SECONDS))


def progress_of(statuses: Sequence[PullStatus]) -> StartProgress:
    """All these pulls as one."""
    done = sum(status.bytes_done for status in statuses)
    total = max(1, sum(status.bytes_total for status in statuses))
    return StartProgress(phase="downloading", percent=round(100 * done / total, 1), bytes=done)


def path_of(status: PullStatus) -> str:
    """Where an ended pull put the model. Problem 502 where it did not end well."""
    if status.path is None:
        why = status.error or status.phase.value
        detail = f"the model could not be downloaded to node '{status.node_id}': {why}"
        raise Problem(502, "download-failed", detail)
    return status.path
