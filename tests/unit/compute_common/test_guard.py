"""The door over HTTP: scopes, rates, other sites, headers, time limits."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from compute_common.access.api_keys import ApiKey, Scope, digest, new_token
from compute_common.access.key_file import change_keys
from compute_common.shell import Service, ServiceSettings
from compute_common.shell.routing import new_router
from compute_common.times import utc_now
from tests.support.apps import serving
from tests.support.waiting import until

ENVIRONMENT_KEY = "the key of the environment"


class Body(BaseModel):
    text: str = ""


class Host(Service):
    name = "gpu-orchestrator"
    title = "Host"

    def routers(self) -> Sequence[APIRouter]:
        router = new_router("host")

        @router.get("/api/v1/things")
        async def read() -> str:
            return "read"

        @router.post("/api/v1/things")
        async def write(body: Body) -> str:
            return body.text

        @router.post("/api/v1/gpu/0/cordon")
        async def cordon() -> str:
            return "cordoned"

        @router.get("/slow")
        async def slow() -> None:
            await asyncio.sleep(60)

        @router.get("/stream")
        async def stream() -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield b"data: x\n\n"
                    await asyncio.sleep(0.1)

            return StreamingResponse(pieces(), media_type="text/event-stream")

        return [router]


def settings(**more: object) -> ServiceSettings:
    return ServiceSettings.model_validate(
        {"NATS_URL": "nats://127.0.0.1:9", "NATS_WAIT_SECONDS": 0.01, **more}
    )


def with_keys(folder: Path, *scopes: Scope, **fields: object) -> tuple[ServiceSettings, list[dict[str, str]]]:
    """Settings with a key file, and the headers of each key in it."""
    path, headers = folder / "keys.json", []
    for scope in scopes:
        key_id, token = new_token()
        document = {
            "key_id": key_id,
            "scope": scope,
            "sha256": digest(token),
            "created_at": utc_now(),
            **fields,
        }
        key = ApiKey.model_validate(document)
        change_keys(path, lambda known, key=key: [*known, key])  # type: ignore[misc]
        headers.append({"Authorization": f"Bearer {token}"})
    return settings(COMPUTE_API_KEYS_FILE=path), headers


async def test_each_scope_reaches_as_far_as_it_says(tmp_path: Path) -> None:
    found, headers = with_keys(tmp_path, Scope.READ, Scope.WRITE, Scope.ADMIN)
    async with serving(Host(found)) as client:

        async def statuses(shown: dict[str, str]) -> list[int]:
            return [
                (await client.get("/api/v1/things", headers=shown)).status_code,
                (await client.post("/api/v1/things", headers=shown, json={})).status_code,
                (await client.post("/api/v1/gpu/0/cordon", headers=shown)).status_code,
            ]

        assert await statuses({}) == [401, 401, 401]
        assert [await statuses(shown) for shown in headers] == [
            [200, 403, 403],
            [200, 200, 403],
            [200, 200, 200],
        ]
        refused = await client.post("/api/v1/gpu/0/cordon", headers=headers[0])
        assert refused.json()["type"] == "urn:compute:error:scope-too-small"
        assert "needs admin" in refused.json()["detail"]
        for path in ("/healthz", "/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 401


async def test_both_headers_carry_a_key_and_the_query_none(tmp_path: Path) -> None:
    found, [header] = with_keys(tmp_path, Scope.READ)
    token = header["Authorization"].removeprefix("Bearer ")
    async with serving(Host(found)) as client:
        for shown in ({"X-API-Key": token}, {"Authorization": f"bearer {token}"}):
            assert (await client.get("/api/v1/things", headers=shown)).status_code == 200
        for wrong in (
            {"Authorization": f"Basic {token}"},
            {"X-API-Key": f"{token}x"},
            {"X-API-Key": "x" * 9000},
        ):
            assert (await client.get("/api/v1/things", headers=wrong)).status_code == 401
        assert (await client.get(f"/api/v1/things?api_key={token}")).status_code == 401


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    found, [header] = with_keys(tmp_path, Scope.READ, requests_per_s=0.5)
    async with serving(Host(found)) as client:
        assert (await client.get("/api/v1/things", headers=header)).status_code == 200
        refused = await client.get("/api/v1/things", headers=header)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 2
        assert refused.json()["type"] == "urn:compute:error:too-many-requests"


async def test_a_key_added_while_it_runs_works(tmp_path: Path) -> None:
    found = settings(COMPUTE_API_KEY=ENVIRONMENT_KEY, COMPUTE_API_KEYS_FILE=tmp_path / "keys.json")
    async with serving(Host(found)) as client:
        assert (await client.get("/api/v1/things", headers={"X-API-Key": ENVIRONMENT_KEY})).status_code == 200
        _, [header] = with_keys(tmp_path, Scope.READ)

        async def works() -> bool:
            return (await client.get("/api/v1/things", headers=header)).status_code == 200

        await until(works, 5)


@pytest.mark.parametrize(
    ("host", "origin", "passes"),
    [
        ("127.0.0.1:8098", None, True),  # no browser
        ("127.0.0.1:8098", "http://127.0.0.1:8098", True),
        ("localhost:8098", "http://localhost:8098", True),
        ("[::1]:8098", "http://[::1]:8098", True),
        ("gpu-box:8098", "http://gpu-box:8098", True),
        ("gpu-box.local:8098", "http://gpu-box.local:8098", True),
        ("127.0.0.1:8098", "https://evil.example", False),
        ("127.0.0.1:8098", "http://127.0.0.1:3000", False),
        ("127.0.0.1:8098", "null", False),
        ("rebound.evil.example:8098", "http://rebound.evil.example:8098", False),
        ("127.0.0.1:8098", "https://console.example", True),  # named in COMPUTE_CORS_ORIGINS
    ],
)
async def test_pages_of_other_sites_change_nothing(host: str, origin: str | None, passes: bool) -> None:
    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    async with serving(Host(settings(COMPUTE_CORS_ORIGINS="https://console.example"))) as client:
        answer = await client.post("/api/v1/gpu/0/cordon", headers=headers)
        assert answer.status_code == (200 if passes else 403)


async def test_cors_is_closed_unless_an_origin_is_named(tmp_path: Path) -> None:
    asked = {"Origin": "https://console.example", "Access-Control-Request-Method": "POST"}
    async with serving(Host(settings())) as client:
        closed = await client.options("/api/v1/things", headers=asked)
        assert "access-control-allow-origin" not in closed.headers
        read = await client.get("/api/v1/things", headers=asked)
        assert "access-control-allow-origin" not in read.headers
    found = settings(COMPUTE_CORS_ORIGINS="https://console.example", COMPUTE_API_KEY=ENVIRONMENT_KEY)
    async with serving(Host(found)) as client:
        opened = await client.options("/api/v1/things", headers=asked)
        assert opened.headers["access-control-allow-origin"] == "https://console.example"
        assert "access-control-allow-credentials" not in opened.headers
        other = await client.options("/api/v1/things", headers={**asked, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("origins", ["*", "https://a.example/path", "console.example", "https://a@b.example"])
def test_origins_are_exact(origins: str) -> None:
    with pytest.raises(ValidationError, match="COMPUTE_CORS_ORIGINS"):
        settings(COMPUTE_CORS_ORIGINS=origins)


async def test_every_answer_has_the_security_headers() -> None:
    async with serving(Host(settings(COMPUTE_API_KEY=ENVIRONMENT_KEY))) as client:
        for path in ("/livez", "/api/v1/things", "/nowhere"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'none'")


async def test_the_documentation_page_is_allowed_its_own_script() -> None:
    async with serving(Host(settings())) as client:
        page = await client.get("/docs")
        policy = page.headers["content-security-policy"]
        assert "SwaggerUIBundle" in page.text
        assert "script-src https://cdn.jsdelivr.net 'sha256-" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


async def test_an_answer_that_does_not_come_is_504_and_a_stream_may_take_its_time() -> None:
    async with serving(Host(settings(COMPUTE_ANSWER_SECONDS=0.15))) as client:
        late = await client.get("/slow")
        assert (late.status_code, late.json()["type"]) == (504, "urn:compute:error:answer-too-late")
        streamed = await client.get("/stream")
        assert (streamed.status_code, streamed.text.count("data: x")) == (200, 3)


async def test_a_body_that_drips_is_408() -> None:
    async def dripping() -> AsyncIterator[bytes]:
        yield b'{"text":'
        await asyncio.sleep(60)

    async with serving(Host(settings(COMPUTE_BODY_SECONDS=0.1))) as client:
        late = await client.post(
            "/api/v1/things", content=dripping(), headers={"content-type": "application/json"}
        )
        assert (late.status_code, late.json()["type"]) == (408, "urn:compute:error:body-too-slow")
