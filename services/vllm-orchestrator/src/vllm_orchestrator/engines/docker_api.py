"""Docker as our proxy grants it, asked over the proxy's Unix socket; no other socket will do."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from compute_common.problems import Problem

SPEAKER = "X-Compute-Docker-Proxy"
ASK_SECONDS = 20
MAX_FRAME_BYTES = 1 << 20


@dataclass(frozen=True)
class ContainerState:
    """`exit_code` means something once it does not run."""

    running: bool
    exit_code: int
    out_of_memory: bool


class DockerApi:
    """Calls raise Problem: 503 `docker-unreachable`, else the refusal in Docker's or the proxy's words."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        limits = httpx.Timeout(ASK_SECONDS, connect=5)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://docker", timeout=limits)

    async def check(self) -> None:
        """Problem 503 unless the proxy answers, and Docker behind it."""
        if not self._socket.is_socket():
            raise _away(f"there is no Docker proxy at {self._socket}: start compute-docker-proxy")
        answer = await self._ask("GET", "/_ping")
        if SPEAKER not in answer.headers:
            raise _away(f"{self._socket} is not our Docker proxy, and Docker itself is not talked to")

    async def engines(self) -> list[dict[str, Any]]:
        """Every container of ours, ended ones too."""
        found = (await self._ask("GET", "/containers/json")).json()
        return [each for each in found if isinstance(each, dict)]

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        answer = await self._ask("POST", "/containers/create", {"name": name}, body)
        return str(answer.json()["Id"])

    async def start(self, container: str) -> None:
        await self._ask("POST", f"/containers/{container}/start")

    async def state(self, container: str) -> ContainerState | None:
        """None when it is gone."""
        try:
            answer = await self._ask("GET", f"/containers/{container}/json")
        except Problem as problem:
            if problem.status == 404:
                return None
            raise
        state = answer.json()["State"]
        return ContainerState(bool(state["Running"]), int(state["ExitCode"]), bool(state["OOMKilled"]))

    async def stop(self, container: str, limit_seconds: int) -> None:
        """SIGTERM, SIGKILL after the limit; one that has ended or gone is fine."""
        path, patience = f"/containers/{container}/stop", limit_seconds + ASK_SECONDS
        with _gone():
            await self._ask("POST", path, {"t": str(limit_seconds)}, seconds=patience)

    async def remove(self, container: str) -> None:
        """With its own file system; returns when it is gone."""
        with _gone():
            await self._ask("DELETE", f"/containers/{container}")

    async def memory_bytes(self, container: str) -> int:
        """What its cgroup uses, mapped files included."""
        stats = (await self._ask("GET", f"/containers/{container}/stats")).json()
        return int((stats.get("memory_stats") or {}).get("usage") or 0)

    async def has_image(self, image: str) -> bool:
        try:
            await self._ask("GET", "/images/json", {"image": image})
        except Problem as problem:
            if problem.status == 404:
                return False
            raise
        return True

    async def pull(self, image: str) -> AsyncIterator[str]:
        """What is said of it, line by line. Raises Problem 502 where the registry refuses."""
        query = {"fromImage": image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"}
        async with self._reading("POST", "/images/create", query) as answer:
            async for line in answer.aiter_lines():
                said = _object(line)
                if "error" in said:
                    raise Problem(502, "no-image", f"the image {image} could not be pulled: {said['error']}")
                yield str(said.get("status", ""))

    async def logs(self, container: str, since: float, *, follow: bool) -> AsyncIterator[bytes]:
        """Both streams as they come, until the container ends or, without `follow`, what there is."""
        query = {"since": f"{since:.9f}", "follow": str(int(follow)), "stdout": "1", "stderr": "1"}
        async with self._reading("GET", f"/containers/{container}/logs", query) as answer:
            async for part in _unframed(answer.aiter_bytes()):
                yield part

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = ASK_SECONDS,
    ) -> httpx.Response:
        try:
            answer = await self._client.request(method, path, params=query, json=body, timeout=seconds)
        except httpx.HTTPError as error:
            raise _away(f"the Docker proxy does not answer ({type(error).__name__})") from error
        _refused(answer)
        return answer

    def _reading(self, method: str, path: str, query: Mapping[str, str]) -> "_Reading":
        timeout = httpx.Timeout(None, connect=5)
        return _Reading(self._client, self._client.build_request(method, path, params=query, timeout=timeout))


class _Reading:
    """An answer whose body is read as it comes."""

    def __init__(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        self._client, self._request = client, request
        self._answer: httpx.Response | None = None

    async def __aenter__(self) -> httpx.Response:
        try:
            self._answer = await self._client.send(self._request, stream=True)
        except httpx.HTTPError as error:
            raise _away(f"the Docker proxy does not answer ({type(error).__name__})") from error
        if not self._answer.is_success:
            await self._answer.aread()
            _refused(self._answer)
        return self._answer

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._answer is not None:
            await self._answer.aclose()
        if isinstance(error, httpx.HTTPError):
            raise _away("the Docker proxy went away") from error


async def _unframed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Docker sends frames: a byte for the stream, three of nothing, the length in four, the text."""
    left = bytearray()
    async for chunk in chunks:
        left += chunk
        while len(left) >= 8:
            length = int.from_bytes(left[4:8], "big")
            if length > MAX_FRAME_BYTES:
                raise Problem(502, "docker-nonsense", "Docker's log is not framed as it says")
            if len(left) < 8 + length:
                break
            yield bytes(left[8 : 8 + length])
            del left[: 8 + length]


def _refused(answer: httpx.Response) -> None:
    if answer.is_success or answer.status_code == 304:
        return
    said = _object(answer.text)
    detail = str(said.get("detail") or said.get("message") or f"Docker answered {answer.status_code}")[:1000]
    cause = str(said.get("type", "")).rpartition(":")[2] or "docker-refused"
    status = answer.status_code if answer.status_code in (403, 404, 409, 503) else 502
    raise Problem(status, cause, detail)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class _gone:  # noqa: N801 - reads as `suppress` does
    """A container that is not there any more needs no ending."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        return isinstance(error, Problem) and error.status == 404


def _away(detail: str) -> Problem:
    return Problem(503, "docker-unreachable", detail)
