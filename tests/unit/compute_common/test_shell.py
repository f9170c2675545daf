"""The service shell without NATS: health, errors, limits, the API key."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from fastapi import APIRouter
from pydantic import ValidationError

from compute_common.bus_auth import NatsSettings
from compute_common.problems import conflict
from compute_common.schemas.work import SubmitRequest
from compute_common.shell import Service, ServiceSettings
from compute_common.shell.routing import new_router
from tests.support.apps import serving

JSON = {"content-type": "application/json"}


class Echo(Service):
    name = "node-registry"
    title = "Echo"

    def routers(self) -> Sequence[APIRouter]:
        router = new_router("echo")

        @router.post("/echo", response_model=SubmitRequest)
        async def echo(body: SubmitRequest) -> SubmitRequest:
            return body

        @router.get("/taken")
        async def taken() -> None:
            raise conflict("name-taken", "choose another name", shortfall_mb=3)

        @router.get("/crash")
        async def crash() -> None:
            raise RuntimeError("secret inside")

        return [router]


def settings(**more: object) -> ServiceSettings:
    return ServiceSettings.model_validate(
        {"NATS_URL": "nats://127.0.0.1:9", "NATS_WAIT_SECONDS": 0.01, **more}
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Echo(settings())) as client:
        yield client


async def test_without_nats_a_service_is_degraded_and_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get("/healthz")
    health = answer.json()
    assert (answer.status_code, health["status"], health["service"]) == (200, "degraded", "node-registry")
    assert health["checks"]["nats"]["ok"] is False
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200
    assert "compute_nats_connected" in (await client.get("/metrics")).text


async def test_a_refusal_is_problem_json(client: httpx.AsyncClient) -> None:
    answer = await client.get("/taken")
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["type"]) == (409, "urn:compute:error:name-taken")
    assert problem["detail"] == problem["error"] == "choose another name"
    assert (problem["shortfall_mb"], problem["instance"]) == (3, "/taken")
    assert problem["error_id"].startswith("err-")


async def test_a_crash_shows_nothing_of_the_inside(client: httpx.AsyncClient) -> None:
    answer = await client.get("/crash")
    assert answer.status_code == 500
    assert "secret inside" not in answer.text
    assert answer.json()["type"] == "urn:compute:error:internal"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"work_type":"x\xff"}', 400),
        (b'{"work_type":"x","payload":{"a":NaN}}', 400),
        (b'{"work_type":"\\ud800"}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"", 422),
        (b'{"work_type":3}', 422),
        (b'{"work_type":"x","priority":10}', 422),
        (b'{"work_type":"x","priority":' + b"9" * 400 + b"}", 422),
        (b'{"work_type":"' + b"x" * (1 << 20) + b'"}', 413),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_bad_bodies(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await client.post("/echo", content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.json()["type"].startswith("urn:compute:error:")


async def test_a_long_body_without_length_is_refused(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * (1 << 16)

    answer = await client.post("/echo", content=endless(), headers=JSON)
    assert answer.status_code == 413


async def test_request_ids_are_kept_or_made(client: httpx.AsyncClient) -> None:
    kept = await client.get("/livez", headers={"X-Request-ID": "abc-1"})
    made = await client.get("/livez", headers={"X-Request-ID": "a b\tc"})
    assert kept.headers["X-Request-ID"] == "abc-1"
    assert made.headers["X-Request-ID"].startswith("req-")


async def test_the_api_key_guards_all_but_health() -> None:
    async with serving(Echo(settings(COMPUTE_API_KEY="k3y"))) as client:
        assert (await client.get("/taken")).status_code == 401
        assert (await client.get("/taken", headers={"X-API-Key": "wrong"})).status_code == 401
        assert (await client.get("/taken", headers={"X-API-Key": "k3y"})).status_code == 409
        assert (await client.get("/taken", headers={"Authorization": "Bearer k3y"})).status_code == 409
        for path in ("/healthz", "/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200


async def test_openapi_documents_the_problem(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert "ProblemDocument" in document["components"]["schemas"]
    assert "4XX" in document["paths"]["/echo"]["post"]["responses"]


def test_credentials_never_show() -> None:
    nats = NatsSettings.model_validate({"NATS_URL": "nats://ann:s3cret@box:4222,nats://box2:4222"})
    assert nats.server_list == ["nats://box:4222", "nats://box2:4222"]
    assert nats.userinfo() == ("ann", "s3cret")
    assert "s3cret" not in repr(nats)
    assert "s3cret" not in nats.safe_url


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose passes what is unset as an empty string."""
    monkeypatch.setenv("NATS_URL", "")
    monkeypatch.setenv("COMPUTE_API_KEY", "")
    found = ServiceSettings()
    assert found.server_list == ["nats://127.0.0.1:4222"]
    assert found.compute_api_key is None


@pytest.mark.parametrize("url", ["", " , "])
def test_a_nats_url_names_a_server(url: str) -> None:
    with pytest.raises(ValidationError, match="must name a server"):
        NatsSettings.model_validate({"NATS_URL": url})
