"""The Hugging Face Hub, or what speaks its API at HF_ENDPOINT: a listing, and files from any byte on."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from compute_common.access.engine_hosts import PRIVATE, EngineHosts, public
from compute_common.problems import Problem, not_found, unavailable
from vllm_orchestrator.downloads.listing import MAX_FILES, Listing, RemoteFile, check_repo, remote_file

TIMEOUT = httpx.Timeout(30, connect=10)
MAX_LISTING_BYTES = 32 << 20
THIS_NETWORK = EngineHosts.parse(PRIVATE)


class Restart(Exception):  # noqa: N818 - what the reader is told to do
    """The server sends the file from its start, not from where it was asked to."""


class Hub:
    """`token` goes to the Hub alone: not to where it redirects, never into a message."""

    def __init__(self, endpoint: str, token: SecretStr | None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._client: httpx.AsyncClient | None = None
        self._host = httpx.URL(self.endpoint).host
        self.origin = "hub"

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def listing(self, name: str, revision: str = "main") -> Listing:
        """Every file of a model at one commit. Problem 403, 404 or 503 that says what to set."""
        check_repo(name)
        url = f"{self.endpoint}/api/models/{name}/revision/{quote(revision, safe='')}?blobs=true"
        try:
            async with self._http().stream("GET", url) as answer:
                await self._refuse(answer, name)
                body = await _bounded(answer)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return _listing(name, body)

    async def read(self, listing: Listing, file: RemoteFile, offset: int) -> AsyncGenerator[bytes, None]:
        """The bytes of `file` from `offset` on. `Restart`, TransportError when cut, Problem on a refusal."""
        path = f"{listing.model_name}/resolve/{quote(listing.revision, safe='')}/{quote(file.path)}"
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        headers = {**asked, "Accept-Encoding": "identity"}
        async with self._http().stream("GET", f"{self.endpoint}/{path}", headers=headers) as answer:
            if offset and answer.status_code in (200, 416):
                raise Restart
            await self._refuse(answer, listing.model_name)
            if offset and not answer.headers.get("content-range", "").startswith(f"bytes {offset}-"):
                raise Restart
            async for chunk in answer.aiter_raw():
                yield chunk

    async def head(self, listing: Listing, file: RemoteFile, most: int) -> bytes:
        """The first `most` bytes of a file, or all of it."""
        body = bytearray()
        try:
            async with aclosing(self.read(listing, file, 0)) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= most:
                        break
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return bytes(body[:most])

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:  # most hosts never ask; the proxy of the environment is right here
            headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"} if self._token else {}
            self._client = httpx.AsyncClient(
                timeout=TIMEOUT,
                headers=headers,
                follow_redirects=True,
                max_redirects=5,
                event_hooks={"request": [self._check_hop]},
            )
        return self._client

    async def _check_hop(self, request: httpx.Request) -> None:
        """The Hub redirects to wherever its files are; into this host or network only one that is there."""
        host = request.url.host
        if host == self._host or (public(host) and request.url.scheme == "https"):
            return
        if not public(self._host) and THIS_NETWORK.allow_host(host):
            return
        raise httpx.UnsupportedProtocol("a redirect to where the Hub's files cannot be", request=request)

    async def _refuse(self, answer: httpx.Response, name: str) -> None:
        code = answer.headers.get("x-error-code", "")
        if answer.is_success:
            return
        if code == "GatedRepo" or answer.status_code == 403:
            raise self._gated(name)
        if answer.status_code in (401, 404):
            raise self._unknown(name, code)
        if answer.status_code == 429 or answer.status_code >= 500:
            raise httpx.RemoteProtocolError(f"the Hub answered {answer.status_code}")
        raise unavailable("hub-refused", f"the Hub answered {answer.status_code} about {name}; try again")

    def _gated(self, name: str) -> Problem:
        page = f"{self.endpoint}/{name}"
        if self._token is None:
            detail = f"{name} is gated: accept its licence at {page}, then set HF_TOKEN on this host"
        else:
            detail = f"the HF_TOKEN of this host may not read {name}: accept its licence at {page} with it"
        return Problem(403, "gated-model", detail)

    def _unknown(self, name: str, code: str) -> Problem:
        if code == "RevisionNotFound":
            return not_found("unknown-revision", f"{name} has no such revision on the Hub")
        hint = "" if self._token else ", or, where it is private, set HF_TOKEN on this host"
        return not_found("unknown-model", f"the Hub has no model '{name}': check the id{hint}")

    def _unreachable(self, error: httpx.HTTPError) -> Problem:
        return Problem(
            424,
            "hub-unreachable",
            f"no other node has the model and the Hub does not answer at {self.endpoint}"
            f" ({type(error).__name__}): set HF_ENDPOINT to a mirror, or put the files under VLLM_MODEL_PATH",
        )


async def _bounded(answer: httpx.Response) -> Any:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > MAX_LISTING_BYTES:
            raise _nonsense()
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _nonsense() from error


def _listing(name: str, body: Any) -> Listing:
    siblings = body.get("siblings") if isinstance(body, dict) else None
    revision = body.get("sha") if isinstance(body, dict) else None
    if not isinstance(siblings, list) or len(siblings) > MAX_FILES or not isinstance(revision, str):
        raise _nonsense()
    return Listing(name, "hub", revision, tuple(_file(each) for each in siblings))


def _file(entry: Any) -> RemoteFile:
    if not isinstance(entry, dict):
        raise _nonsense()
    lfs = entry.get("lfs")
    lfs = lfs if isinstance(lfs, dict) else {}
    return remote_file(entry.get("rfilename"), entry.get("size", lfs.get("size")), lfs.get("sha256"))


def _nonsense() -> Problem:
    return Problem(502, "hub-nonsense", "HF_ENDPOINT does not answer as the Hub does")
