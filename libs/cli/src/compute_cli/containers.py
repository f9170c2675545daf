"""Engines that the suite's orchestrator runs in containers, each noted in `$COMPUTE_HOME/containers`."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import httpx

REMOVE_SECONDS = 4.0
_ID = re.compile(r"[0-9a-f]{64}\Z")


async def end_containers(home: Path, environment: Mapping[str, str]) -> list[str]:
    """Remove them through the Docker proxy; the names of those that are left, where it does not answer."""
    notes = {note: note.read_text().strip() for note in (home / "containers").glob("*")}
    known = {note: container for note, container in notes.items() if _ID.match(container)}
    if not known:
        return []
    path = environment.get("DOCKER_PROXY_SOCKET") or str(home / "docker-proxy.sock")
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://docker", timeout=REMOVE_SECONDS
    ) as client:
        ended = await asyncio.gather(*(_ended(client, container) for container in known.values()))
    for note, gone in zip(known, ended, strict=True):
        if gone:
            note.unlink(missing_ok=True)
    return [note.name for note, gone in zip(known, ended, strict=True) if not gone]


async def _ended(client: httpx.AsyncClient, container: str) -> bool:
    try:
        answer = await client.delete(f"/containers/{container}")
    except httpx.HTTPError:
        return False
    return answer.status_code in (204, 404)
