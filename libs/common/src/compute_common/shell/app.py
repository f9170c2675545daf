"""`create_app(service)`: the FastAPI application of one service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from compute_common.shell.docs_page import install_docs
from compute_common.shell.guard import Guard
from compute_common.shell.health import health_router
from compute_common.shell.logging import configure_logging
from compute_common.shell.middleware import ShellMiddleware
from compute_common.shell.patience import Bounds
from compute_common.shell.problems import ProblemDocument, install_problem_handlers
from compute_common.shell.service import Service

log = structlog.get_logger("shell")


def create_app(service: Service) -> FastAPI:
    """Wire the shell around `service`; the service itself is at `app.state.service`."""
    settings = service.base_settings
    configure_logging(service.name, settings.log_level)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.bus.start()
        await service.bus.wait_connected(settings.nats_wait_seconds)
        await service.start()
        if service.bus.connected:
            await service.bus.flush()  # ready means that NATS has the subscriptions, too
        service.ready = True
        log.info("started", service_version=service.version, node_id=service.node_id)
        try:
            yield
        finally:
            service.ready = False
            await service.stop()
            await service.bus.stop()
            log.info("stopped")

    app = FastAPI(
        title=service.title,
        description=service.description,
        version=service.version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    install_problem_handlers(app)
    install_docs(app)
    app.include_router(health_router(service))
    for router in service.routers():
        app.include_router(router)
    app.add_middleware(
        ShellMiddleware,
        metrics=service.metrics,
        guard=Guard(settings.key_ring(), settings.key_requests_per_s),
        bounds=Bounds(settings.max_body_bytes, settings.body_seconds, settings.answer_seconds),
        origins=settings.origins,
    )
    if settings.origins:  # outside the key: browsers ask beforehand without it
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(settings.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type"],
        )
    _document_problems(app)
    return app


def _document_problems(app: FastAPI) -> None:
    """Add the problem document's schema, and drop FastAPI's own 422 shape, which is never sent."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            document = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            components.update(document.pop("$defs", {}))
            components["ProblemDocument"] = document
            for item in schema["paths"].values():
                for operation in item.values():
                    operation.get("responses", {}).pop("422", None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
