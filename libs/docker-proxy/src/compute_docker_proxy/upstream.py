"""Docker's own socket, as the proxy asks it."""

import asyncio
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import httpx

from compute_common.engine_containers import MARK, MARKED

TIMEOUT = httpx.Timeout(60, connect=5)
STOP_SECONDS = 3600.0  # beyond what a stop may take of its own time
REMEMBERED = 1024


class Docker:
    """Remembers which containers are ours: an id is never given twice, a label never changes."""

    def __init__(self, socket: Path) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://docker", timeout=TIMEOUT)
        self._ours: OrderedDict[str, None] = OrderedDict()

    async def ask(
        self, method: str, path: str, query: dict[str, str], body: Any = None, *, streams: bool = False
    ) -> httpx.Response:
        """Docker's answer; with `streams` its body is still to be read. httpx.HTTPError where it is away."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content else {}
        request = self._client.build_request(method, path, params=query, content=content, headers=headers)
        if streams or path.endswith("/stop"):
            request.extensions["timeout"] = httpx.Timeout(
                None if streams else STOP_SECONDS, connect=5
            ).as_dict()
        return await self._client.send(request, stream=streams)

    async def is_ours(self, container: str) -> bool | None:
        """Whether it carries our mark; None when there is no such container."""
        if container in self._ours:
            return True
        answer = await self.ask("GET", f"/containers/{container}/json", {})
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        document = answer.json()
        labels = document.get("Config", {}).get("Labels") or {}
        ours = document.get("Id") == container and labels.get(MARK) == MARKED
        if ours:
            self._ours[container] = None
            if len(self._ours) > REMEMBERED:
                self._ours.popitem(last=False)
        return ours

    async def end_all(self, network: str) -> int:
        """Remove every container of ours on this network; how many there were."""
        query = {"all": "1", "filters": json.dumps({"label": [f"{MARK}={MARKED}"], "network": [network]})}
        found = [each["Id"] for each in (await self.ask("GET", "/containers/json", query)).json()]
        removed = {"force": "1", "v": "1"}
        await asyncio.gather(*(self.ask("DELETE", f"/containers/{each}", removed) for each in found))
        return len(found)

    def forget(self, container: str) -> None:
        self._ours.pop(container, None)

    async def close(self) -> None:
        await self._client.aclose()
