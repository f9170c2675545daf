"""/healthz, /livez, /readyz and /metrics, the same for all six."""

import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import choose_encoder

from compute_common.schemas.health import Health
from compute_common.shell.nats_metrics import ConnectionCollector
from compute_common.shell.service import Service
from compute_common.times import utc_now


def health_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["health"])
    service.metrics.registry.register(ConnectionCollector(service.name, service.bus))

    @router.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> JSONResponse:
        """The truth about every dependency; 503 only where the service cannot do its job."""
        health = await health_of(service)
        code = 503 if health.status == "unhealthy" else 200
        return JSONResponse(health.model_dump(mode="json"), code)

    @router.get("/livez", response_class=PlainTextResponse)
    async def livez() -> str:
        """The process answers; no dependency is touched."""
        return "ok"

    @router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not ready"}})
    async def readyz() -> PlainTextResponse:
        """503 until start-up replay is done and while shutting down."""
        ready = service.ready and service.is_ready()
        return PlainTextResponse("ready" if ready else "not ready", 200 if ready else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Prometheus text, OpenMetrics on request."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(service.metrics.registry), media_type=content_type)

    return router


async def health_of(service: Service) -> Health:
    """The health document: unhealthy when a required check fails, degraded when an optional one does."""
    checks = await service.check_results()
    failed = [check for check in checks.values() if not check.ok]
    status = "healthy"
    if failed:
        status = "unhealthy" if any(check.required for check in failed) else "degraded"
    return Health.model_validate(
        {
            "status": status,
            "service": service.name,
            "version": service.version,
            "uptime_seconds": round(time.monotonic() - service.started_at, 3),
            "timestamp": utc_now(),
            "checks": checks,
        }
    )
