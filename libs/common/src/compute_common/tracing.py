"""W3C trace context: taken from HTTP and NATS headers, handed on by whatever is sent while it is current.

A request that names no trace begins one only where spans are exported (`OTEL_EXPORTER_OTLP_ENDPOINT`):
headers on messages have a price, and a request id is in the log anyway.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from compute_common.span_export import Finished, export

HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_current: ContextVar["TraceContext | None"] = ContextVar("trace", default=None)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of a trace, in lower-case hex."""

    trace_id: str
    span_id: str
    flags: str = "01"

    @property
    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> "TraceContext":
        return replace(self, span_id=secrets.token_hex(8))

    @staticmethod
    def begin() -> "TraceContext":
        return TraceContext(secrets.token_hex(16), secrets.token_hex(8))


def parse(header: object) -> TraceContext | None:
    """The context in a `traceparent`; None for one that the standard says to ignore."""
    found = _FORM.fullmatch(header) if isinstance(header, str) and len(header) <= 512 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    known = (version == "00" and more is None) or version not in ("00", "ff")
    if not known or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, f"{int(flags, 16) & 1:02x}")


def current() -> TraceContext | None:
    return _current.get()


def stamped(headers: dict[str, str] | None = None) -> dict[str, str] | None:
    """`headers` and the current trace; they alone where there is none."""
    context = _current.get()
    return headers if context is None else {**(headers or {}), HEADER: context.header}


@contextmanager
def span(
    name: str | Callable[[], str], headers: Mapping[str, Any] | None, kind: str = "consumer"
) -> Iterator[None]:
    """What runs inside belongs to the trace that `headers` name, if any; it is exported when it ends.

    `kind`: server, consumer or internal, as OpenTelemetry means it. `name` may be known at the end only.
    """
    parent = parse(headers.get(HEADER)) if headers else None
    exporter = export()
    if parent is None and exporter is None:
        yield
        return
    context = parent.child() if parent else TraceContext.begin()
    token, began, error = _current.set(context), time.time_ns(), None
    try:
        yield
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        _current.reset(token)
        if exporter is not None and context.flags == "01":
            ids = (context.trace_id, context.span_id, parent.span_id if parent else None)
            called = name if isinstance(name, str) else name()
            exporter(Finished(called, kind, *ids, began, time.time_ns(), error))


def add_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: log lines carry the trace they belong to."""
    context = _current.get()
    if context is not None:
        event.setdefault("trace_id", context.trace_id)
    return event
