"""Spans to an OpenTelemetry collector: `pip install compute-common[otel]`, `OTEL_EXPORTER_OTLP_ENDPOINT=…`.

OpenTelemetry's own variables (`OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_HEADERS`, …) hold. Without the
endpoint nothing of it is imported.
"""

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import structlog

log = structlog.get_logger("tracing")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_service = "compute"


@dataclass(frozen=True, slots=True)
class Finished:
    """A span that has ended; times in nanoseconds since 1970."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    began: int
    ended: int
    error: str | None


Export = Callable[[Finished], None]


def name_service(service: str) -> None:
    """What spans say where they come from; before the first one."""
    global _service  # noqa: PLW0603 - one process is one service
    _service = service


@cache
def export() -> Export | None:
    """Where spans go; None where nobody asked, or the package is not there (said once)."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    try:
        return _batched()
    except ImportError:
        log.warning("spans are not exported: install compute-common[otel]")
        return None


def _batched() -> Export:
    """Sent in the background, in batches."""
    api = import_module("opentelemetry.trace")
    sdk = import_module("opentelemetry.sdk.trace")
    batches = import_module("opentelemetry.sdk.trace.export")
    resources = import_module("opentelemetry.sdk.resources")
    http = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    named = os.environ.get("OTEL_SERVICE_NAME") or _service
    resource = resources.Resource.create({"service.name": named})
    processor = batches.BatchSpanProcessor(http.OTLPSpanExporter())
    atexit.register(processor.shutdown)  # the last spans
    sampled = api.TraceFlags(api.TraceFlags.SAMPLED)

    def context(trace_id: str, span_id: str, remote: bool) -> Any:
        return api.SpanContext(int(trace_id, 16), int(span_id, 16), remote, sampled)

    def send(span: Finished) -> None:
        parent = context(span.trace_id, span.parent_id, True) if span.parent_id else None
        processor.on_end(
            sdk.ReadableSpan(
                name=span.name,
                context=context(span.trace_id, span.span_id, False),
                parent=parent,
                resource=resource,
                kind=api.SpanKind[span.kind.upper()],
                start_time=span.began,
                end_time=span.ended,
                status=_status(api, span.error),
            )
        )

    return send


def _status(api: Any, error: str | None) -> Any:
    return api.Status(api.StatusCode.ERROR, error) if error else api.Status(api.StatusCode.UNSET)
