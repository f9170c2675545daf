"""W3C trace context: what is taken for one, and what is handed on."""

import re

import pytest

from compute_common import tracing
from compute_common.span_export import export

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    export.cache_clear()


def test_a_trace_is_taken_over_and_handed_on_with_a_span_of_its_own() -> None:
    with tracing.span("GET /", {"traceparent": GIVEN}):
        sent = (tracing.stamped({"Nats-Msg-Id": "7"}) or {})["traceparent"]
        assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", sent)
        assert sent != GIVEN
        assert tracing.add_trace(None, "info", {})["trace_id"] == TRACE
        with tracing.span("inner", {"traceparent": sent}):
            assert tracing.add_trace(None, "info", {}) == {"trace_id": TRACE}
    assert tracing.current() is None


def test_without_a_trace_nothing_is_added() -> None:
    with tracing.span("GET /", {}):
        assert tracing.stamped() is None
        assert tracing.stamped({"a": "b"}) == {"a": "b"}
        assert tracing.add_trace(None, "info", {}) == {}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        None,
        7,
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01-more",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01\nX-Forged: 1",
        GIVEN + "-" + "x" * 1000,
    ],
)
def test_what_is_no_trace_context_is_ignored(header: object) -> None:
    assert tracing.parse(header) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert tracing.parse(f"cc-{TRACE}-b7ad6b7169203331-ff-what-comes") == tracing.TraceContext(
        TRACE, "b7ad6b7169203331", "01"
    )


def test_an_endpoint_without_the_package_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with tracing.span("GET /", {"traceparent": GIVEN}):
        assert tracing.add_trace(None, "info", {}) == {"trace_id": TRACE}
    export.cache_clear()
