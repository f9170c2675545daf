"""Pulls under way on this host: one per model, shared by everybody who wants it."""

import asyncio
from contextlib import aclosing, suppress
from pathlib import Path

import httpx
import structlog

from compute_common.bus import Bus
from compute_common.problems import Problem, not_found
from compute_common.tasks import end_tasks
from compute_common.times import utc_now
from vllm_orchestrator.downloads.hub import Hub
from vllm_orchestrator.downloads.listing import Listing, check_repo, folder_of, wanted
from vllm_orchestrator.downloads.local import LocalModels
from vllm_orchestrator.downloads.peers import holder_of
from vllm_orchestrator.downloads.schemas import PullPhase, PullRequest, PullStatus
from vllm_orchestrator.downloads.staging import Staging
from vllm_orchestrator.downloads.transfer import Source, fetch

log = structlog.get_logger("downloads")

FILES_AT_ONCE = 4
KEPT = 100  # finished pulls that can still be asked about


class Pulls:
    """`begin` refuses at once what cannot work; what works goes on in the background."""

    def __init__(self, bus: Bus, node_id: str, local: LocalModels, hub: Hub) -> None:
        self._bus = bus
        self._node_id = node_id
        self._local = local
        self._hub = hub
        self._pulls: dict[str, PullStatus] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()

    def all(self) -> list[PullStatus]:
        return list(self._pulls.values())

    def get(self, pull_id: str) -> PullStatus:
        """Problem 404."""
        if pull_id not in self._pulls:
            raise not_found("unknown-pull", f"node '{self._node_id}' knows no pull '{pull_id}'")
        return self._pulls[pull_id]

    async def begin(self, request: PullRequest) -> PullStatus:
        """The pull of this model, new, under way or done. Problem says why it cannot be, and what to set."""
        name = check_repo(request.model_name)
        pull_id = folder_of(name)
        async with self._lock:
            known = self._pulls.get(pull_id)
            if known is not None and known.phase is PullPhase.DOWNLOADING:
                return known
            here = await asyncio.to_thread(self._local.find, name)
            if here is not None:
                return self._keep(self._status(name, PullPhase.DONE, path=str(here)))
            source, listing = await self._source(request)
            staging = Staging(self._local.root, name)
            await asyncio.to_thread(self._prepare, staging, listing)
            status = self._status(name, PullPhase.DOWNLOADING, source=source.origin)
            status.bytes_total = listing.total_bytes
            status.bytes_done = sum(staging.have(file) for file in listing.files)
            task = asyncio.create_task(
                self._run(source, listing, staging, status, request), name=f"pull {pull_id}"
            )
            self._tasks[pull_id] = task
            task.add_done_callback(lambda _task: self._tasks.pop(pull_id, None))
            return self._keep(status)

    async def check(self, request: PullRequest) -> None:
        """Whether `begin` would work, without beginning. Raises its Problem."""
        name = check_repo(request.model_name)
        if await asyncio.to_thread(self._local.find, name) is None:
            _source, listing = await self._source(request)
            await asyncio.to_thread(self._prepare, Staging(self._local.root, name), listing)

    async def cancel(self, pull_id: str) -> PullStatus:
        """End a pull; one that has ended is left as it is. What came stays for the next one. Problem 404."""
        status, task = self.get(pull_id), self._tasks.get(pull_id)
        if task is not None and status.phase is PullPhase.DOWNLOADING:
            await end_tasks([task])
            if status.phase is PullPhase.DOWNLOADING:  # it may have come to its end meanwhile
                status.phase, status.ended_at = PullPhase.CANCELLED, utc_now()
                status.error = "cancelled; pull it again to go on from here"
                log.info("pull cancelled", model=status.model_name, bytes=status.bytes_done)
        return status

    async def stop(self) -> None:
        """Leave what is unfinished where it is: the next pull goes on from there."""
        await end_tasks(list(self._tasks.values()))
        await self._hub.close()

    def _prepare(self, staging: Staging, listing: Listing) -> None:
        staging.open(listing)
        staging.check_room(listing)

    async def _source(self, request: PullRequest) -> tuple[Source, Listing]:
        """Another node's copy before the Hub's, which is asked where a revision is named."""
        name = request.model_name
        if request.revision is None:
            found = await holder_of(self._bus, self._node_id, name)
            if found is not None:
                with suppress(Problem):  # it has another quantisation
                    return found[0], _chosen(found[1], request)
        listing = _chosen(await self._hub.listing(name, request.revision or "main"), request)
        try:  # a gated model lists its files for everybody: try one before saying yes
            async with aclosing(self._hub.read(listing, listing.files[0], 0)) as chunks:
                await anext(chunks, b"")
        except httpx.HTTPError as error:
            raise Problem(424, "hub-unreachable", "the Hub lists the model but sends nothing") from error
        return self._hub, listing

    async def _run(
        self, source: Source, listing: Listing, staging: Staging, status: PullStatus, request: PullRequest
    ) -> None:
        log.info("pull begins", model=listing.model_name, source=source.origin, bytes=listing.total_bytes)
        try:
            try:
                home = await self._bring(source, listing, staging, status)
            except Problem:
                if source is self._hub:
                    raise
                listing = _chosen(await self._hub.listing(listing.model_name), request)
                await asyncio.to_thread(self._prepare, staging, listing)
                status.source, status.bytes_total = "hub", listing.total_bytes
                status.bytes_done = sum(staging.have(file) for file in listing.files)
                home = await self._bring(self._hub, listing, staging, status)
            status.phase, status.path = PullPhase.DONE, str(home)
            log.info("pull done", model=listing.model_name)
        except Problem as problem:
            self._failed(status, problem.detail)
        except OSError as error:
            self._failed(status, f"writing failed: {error.strerror or type(error).__name__}")
        except Exception as error:
            log.exception("pull failed", model=listing.model_name)
            self._failed(status, f"the orchestrator failed on it ({type(error).__name__}); its log says why")
        finally:
            status.ended_at = utc_now()

    async def _bring(self, source: Source, listing: Listing, staging: Staging, status: PullStatus) -> Path:
        def progress(count: int) -> None:
            status.bytes_done = max(0, status.bytes_done + count)

        room = asyncio.Semaphore(FILES_AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await fetch(source, listing, listing.files[number], staging, progress)

        tasks = [asyncio.create_task(one(number)) for number in range(len(listing.files))]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)
        home = self._local.home(listing.model_name)
        await asyncio.to_thread(staging.publish, home, listing)
        return home

    def _failed(self, status: PullStatus, reason: str) -> None:
        status.phase, status.error = PullPhase.FAILED, reason[:2000]
        log.warning("pull failed", model=status.model_name, reason=reason[:300])

    def _status(
        self, name: str, phase: PullPhase, *, path: str | None = None, source: str = "here"
    ) -> PullStatus:
        return PullStatus(
            pull_id=folder_of(name),
            model_name=name,
            node_id=self._node_id,
            phase=phase,
            source=source,
            path=path,
            started_at=utc_now(),
            ended_at=utc_now() if phase is PullPhase.DONE else None,
        )

    def _keep(self, status: PullStatus) -> PullStatus:
        self._pulls.pop(status.pull_id, None)
        self._pulls[status.pull_id] = status
        ended = [name for name, pull in self._pulls.items() if pull.phase is not PullPhase.DOWNLOADING]
        for name in ended[:-KEPT]:
            del self._pulls[name]
        return status


def _chosen(listing: Listing, request: PullRequest) -> Listing:
    files = wanted(listing.model_name, listing.files, request.quantization)
    return Listing(listing.model_name, listing.origin, listing.revision, files)
