"""The real proxy: what reaches Docker's socket and what does not, seen from behind it; and a real Engine."""

import asyncio
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common.engine_containers import create_body
from tests.support.compose import require_docker
from tests.support.docker_proxy import docker, docker_proxy
from tests.unit.compute_docker_proxy.containers import LLAMA
from vllm_orchestrator.engines.docker_api import DockerApi

ID = "ab" * 32
IMAGE = "python:3.11-slim-bookworm"
PLAIN = {"VLLM_DOCKER_IMAGE": "vllm:1", "LLAMA_DOCKER_IMAGE": "llama:1"}


class Recorder:
    """Listens where Docker would, notes every request, and answers that it is fine."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answer = b"{}"

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                head = await reader.readuntil(b"\r\n\r\n") if line != b"\r\n" else b""
                length = next(
                    (int(each.split(b":")[1]) for each in head.lower().splitlines()
                     if each.startswith(b"content-length")), 0
                )  # fmt: skip
                body = await reader.readexactly(length)
                self.heard.append((line + body).decode())
                size = str(len(self.answer)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + size + b"\r\n\r\n" + self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[Recorder, str]]:
    recorder = Recorder()
    folder = tempfile.mkdtemp(prefix="rec")
    path = f"{folder}/d"
    server = await asyncio.start_unix_server(recorder.hear, path)
    try:
        yield recorder, path
    finally:
        server.close()
        shutil.rmtree(folder)


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[tuple[Recorder, Path]]:
    """(what stands behind the proxy, the proxy's socket)."""
    async with recording() as (recorder, path):
        with docker_proxy(Path("/srv/models"), DOCKER_SOCKET=path, **PLAIN) as proxy:
            yield recorder, proxy


def client_of(path: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://proxy", timeout=20
    )


def raw(path: Path, request: bytes) -> bytes:
    """The start of the answer to exactly these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(request)
        return connection.recv(65_536)


async def test_refusals_are_problems_and_nothing_of_them_is_heard(behind: tuple[Recorder, Path]) -> None:
    recorder, path = behind
    async with client_of(path) as client:
        for method, target in (
            ("GET", "/info"),
            ("POST", "/build?remote=http://evil"),
            ("POST", "/containers/create"),
            ("POST", "/images/create?fromImage=alpine"),
            ("GET", "/images/json?image=alpine"),
            ("POST", "/images/create"),
            ("DELETE", "/containers/postgres"),
        ):
            answer = await client.request(method, target)
            assert answer.status_code == 403, (method, target)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"]
        assert (await client.post("/containers/create", content=b"[" * 100_000)).status_code == 403
        assert (await client.post("/containers/create", content=b"x" * 300_000)).status_code == 413
        body = create_body(LLAMA)
        body["HostConfig"]["Binds"] = ["/srv/models/../..:/host"]
        refused = await client.post("/containers/create", params={"name": LLAMA.name}, json=body)
        assert refused.status_code == 403
        assert "HostConfig.Binds" in refused.json()["detail"]
        elsewhere = create_body(replace(LLAMA, models="/srv/models/../../etc"))
        refused = await client.post("/containers/create", params={"name": LLAMA.name}, json=elsewhere)
        assert (refused.status_code, refused.json()["detail"]) == (
            403,
            "only the folder of models is mounted",
        )
    assert recorder.heard == []


async def test_tricks_on_the_wire(behind: tuple[Recorder, Path]) -> None:
    recorder, path = behind
    exec_ = f"/containers/{ID}/exec".encode()
    for request in (
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        b"POST /containers/" + ID.encode() + b"/attach HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n"
        b"Connection: Upgrade\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\n\r\n",
        b"GET http://docker/info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /_ping/.." + exec_ + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"POST " + exec_.replace(b"exec", b"%65xec") + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        b"GET /info HTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ):
        answer = await asyncio.to_thread(raw, path, request)
        assert answer.split(b" ")[1] in (b"400", b"403"), (request, answer)
        assert b" 101 " not in answer
    assert recorder.heard == []


async def test_a_request_is_made_anew(behind: tuple[Recorder, Path]) -> None:
    """What Docker hears is the template's document, under a path of ours, without the asker's headers."""
    recorder, path = behind
    async with client_of(path) as client:
        text = json.dumps(create_body(LLAMA))
        doubled = text[:-1] + ', "Image": "llama:1"}'
        answer = await client.post("/containers/create", params={"name": LLAMA.name}, content=doubled,
                                   headers={"X-Registry-Auth": "x"})  # fmt: skip
        assert answer.status_code == 200
        await client.get("/containers/json")
    created, listed = recorder.heard
    line, _, body = created.partition("\r\n")
    assert line == f"POST /containers/create?name={LLAMA.name} HTTP/1.1"
    assert json.loads(body) == create_body(LLAMA)
    assert "compute.engine" in listed


async def test_other_containers_are_not_touched(behind: tuple[Recorder, Path]) -> None:
    """Each is looked at first; a label that says otherwise, another id, no label: all the same."""
    recorder, path = behind
    labels: tuple[Any, ...] = ({}, None, {"compute.engine": "0"}, {"compute.instance": "smol"})
    async with client_of(path) as client:
        for given, identity in (*((each, ID) for each in labels), ({"compute.engine": "1"}, "cd" * 32)):
            recorder.answer = json.dumps({"Id": identity, "Config": {"Labels": given}}).encode()
            for method, tail in (
                ("POST", "/stop"),
                ("DELETE", ""),
                ("GET", "/logs"),
                ("GET", "/json"),
                ("POST", "/start"),
            ):
                recorder.heard.clear()
                answer = await client.request(method, f"/containers/{ID}{tail}")
                assert (answer.status_code, answer.json()["type"]) == (403, "urn:compute:error:forbidden")
                assert recorder.heard == [f"GET /containers/{ID}/json HTTP/1.1\r\n"]


async def test_without_docker_behind_it(tmp_path: Path) -> None:
    with docker_proxy(tmp_path, DOCKER_SOCKET=str(tmp_path / "none"), **PLAIN) as path:
        async with client_of(path) as client:
            answer = await client.get("/_ping")
            assert (answer.status_code, answer.json()["type"]) == (
                503,
                "urn:compute:error:docker-unreachable",
            )


async def test_only_its_owner_may_use_the_socket(tmp_path: Path) -> None:
    with docker_proxy(tmp_path, DOCKER_SOCKET="/none") as path:
        assert path.stat().st_mode & 0o777 == 0o600
    with docker_proxy(tmp_path, DOCKER_SOCKET="/none", DOCKER_PROXY_GROUP=str(os.getgid())) as path:
        assert path.stat().st_mode & 0o777 == 0o660


async def test_docker_s_own_socket_is_not_taken_for_the_proxy() -> None:
    async with recording() as (_recorder, path):
        api = DockerApi(Path(path))
        try:
            with pytest.raises(Exception, match="is not our Docker proxy"):
                await api.check()
        finally:
            await api.close()


@pytest.fixture
def stranger() -> Iterator[str]:
    """Somebody else's container, running."""
    require_docker()
    container = docker("run", "-d", "--label", "compute.instance=smol", "--entrypoint", "sleep", IMAGE, "600")
    yield container
    docker("rm", "-f", container)


@pytest.mark.docker
@pytest.mark.slow
async def test_with_a_real_engine(stranger: str, tmp_path: Path) -> None:
    ours = replace(
        LLAMA, image=IMAGE, models=str(tmp_path), words=("sleep", "600"), owner=os.urandom(8).hex()
    )
    with docker_proxy(tmp_path, LLAMA_DOCKER_IMAGE=IMAGE) as path:
        api = DockerApi(path)
        await api.check()
        assert await api.has_image(IMAGE)
        made = await api.create(ours.name, create_body(ours))
        try:
            state = await api.state(made)
            assert state is not None
            assert not state.running
            assert made in [each["Id"] for each in await api.engines()]
            assert stranger not in [each["Id"] for each in await api.engines()]
            for ask in (
                api.state(stranger),
                api.stop(stranger, 0),
                api.remove(stranger),
                api.start(stranger),
            ):
                with pytest.raises(Exception, match="not an engine of ours"):
                    await ask
            assert await api.state(ID) is None
            assert docker("inspect", "-f", "{{.State.Running}}", stranger) == "true"
        finally:
            await api.remove(made)
            await api.remove(made)  # gone already
            await api.close()
        assert docker("ps", "-aq", "--filter", f"name={ours.name}") == ""


@pytest.mark.docker
async def test_engines_end_with_the_proxy_where_that_is_asked(stranger: str, tmp_path: Path) -> None:
    """Those of its network; others' and other stacks' stay."""
    network = f"dp-{os.urandom(4).hex()}"
    docker("network", "create", network)
    container = replace(LLAMA, image=IMAGE, models=str(tmp_path), words=("sleep", "600"), bind="")
    ours = replace(container, owner=os.urandom(8).hex(), network=network)
    theirs = replace(container, owner=os.urandom(8).hex(), bind="127.0.0.1")
    try:
        with docker_proxy(tmp_path, LLAMA_DOCKER_IMAGE=IMAGE) as path:
            api = DockerApi(path)
            other = await api.create(theirs.name, create_body(theirs))
            await api.close()
        settings = {"LLAMA_DOCKER_IMAGE": IMAGE, "DOCKER_PROXY_ENDS_ENGINES": "1"}
        with docker_proxy(tmp_path, ENGINE_DOCKER_NETWORK=network, **settings) as path:
            api = DockerApi(path)
            await api.start(await api.create(ours.name, create_body(ours)))
            await api.close()
        assert docker("ps", "-aq", "--filter", f"name={ours.name}") == ""
        assert docker("ps", "-aq", "--no-trunc", "--filter", f"name={theirs.name}") == other
        assert docker("inspect", "-f", "{{.State.Running}}", stranger) == "true"
    finally:
        for left in (ours.name, theirs.name):
            for each in docker("ps", "-aq", "--filter", f"name={left}").split():
                docker("rm", "-f", each)
        docker("network", "rm", network)
