"""One file from a source into its place: resumed where it was cut, proven before it gets its name."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

import httpx
import structlog

from compute_common.problems import Problem, unavailable
from vllm_orchestrator.downloads.hub import Restart
from vllm_orchestrator.downloads.listing import Listing, RemoteFile
from vllm_orchestrator.downloads.staging import Staging

log = structlog.get_logger("downloads")

FUTILE_TRIES = 5  # without one byte between them
PAUSE_SECONDS = (0.2, 1.0, 3.0, 10.0, 30.0)
FALSE_HASHES = 2
WRITE_BYTES = 1 << 20

Progress = Callable[[int], None]


class Source(Protocol):
    """Where a model comes from."""

    origin: str

    def read(self, listing: Listing, file: RemoteFile, offset: int) -> AsyncGenerator[bytes, None]: ...


async def fetch(
    source: Source, listing: Listing, file: RemoteFile, staging: Staging, progress: Progress
) -> None:
    """Bring `file` in; `progress` gets bytes as they come, negative when they have to come again.

    Problem when the source refuses, is cut off for good, or sends something else than it promised.
    """
    for _ in range(FALSE_HASHES):
        if staging.is_done(file):
            return
        await _fill(source, listing, file, staging, progress)
        if await asyncio.to_thread(staging.complete, file):
            return
        progress(-file.size)
        log.warning("a fetched file is not what was promised", model=listing.model_name, origin=source.origin)
    detail = f"{file.path} of {listing.model_name} does not have the size or hash that {source.origin} told"
    raise Problem(502, "false-file", detail)


async def _fill(
    source: Source, listing: Listing, file: RemoteFile, staging: Staging, progress: Progress
) -> None:
    futile = 0
    staging.part(file).parent.mkdir(parents=True, exist_ok=True)
    staging.part(file).touch()
    while (have := staging.part(file).stat().st_size) < file.size:
        try:
            await _append(source, listing, file, staging, progress)
        except Restart:
            progress(-have)
            staging.part(file).unlink()
            staging.part(file).touch()
        except httpx.TransportError as error:
            log.info("transfer cut, resuming", model=listing.model_name, reason=type(error).__name__)
        came = staging.part(file).stat().st_size > have
        futile = 0 if came else futile + 1
        if futile >= FUTILE_TRIES:
            raise unavailable("source-gone", f"{source.origin} stopped sending {file.path}; pull again later")
        if staging.part(file).stat().st_size < file.size:
            await asyncio.sleep(PAUSE_SECONDS[futile])


async def _append(
    source: Source, listing: Listing, file: RemoteFile, staging: Staging, progress: Progress
) -> None:
    """Write what comes, in large pieces; what came before a cut is written, too."""
    part = staging.part(file)
    offset = part.stat().st_size
    waiting = bytearray()
    with part.open("ab") as output:
        try:
            async with aclosing(source.read(listing, file, offset)) as chunks:
                async for chunk in chunks:
                    offset += len(chunk)
                    if offset > file.size:
                        raise Restart
                    waiting += chunk
                    progress(len(chunk))
                    if len(waiting) >= WRITE_BYTES:
                        await asyncio.to_thread(output.write, bytes(waiting))
                        waiting.clear()
        finally:
            output.write(waiting)
