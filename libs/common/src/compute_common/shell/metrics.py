"""Prometheus metrics of one service, in a registry of its own."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from compute_common import __version__

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics every service has; a service adds its own to `registry`."""

    def __init__(self, service: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        info = Gauge(
            "compute_service_info",
            "The service and its version",
            ["service", "version"],
            registry=self.registry,
        )
        info.labels(service, __version__).set(1)
        self._requests = Histogram(
            "compute_http_request_duration_seconds",
            "HTTP requests by route template",
            ["service", "method", "route", "status"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._messages = Counter(
            "compute_bus_messages_total",
            "NATS messages handled, by outcome (ok, rejected, error)",
            ["service", "subject", "outcome"],
            registry=self.registry,
        )
        self._service = service

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(self._service, method, route, str(status)).observe(seconds)

    def observe_message(self, subject: str, outcome: str) -> None:
        self._messages.labels(self._service, _bounded(subject), outcome).inc()


def _bounded(subject: str) -> str:
    """The subject without the node id it may end in, so that labels stay few."""
    head, mark, _tail = subject.partition(".v1")
    if mark:
        return f"{head}.v1"
    parts = subject.split(".")
    return f"compute.node.*.{parts[-1]}" if subject.startswith("compute.node.") else parts[0]
