"""work-queue: what waits, for how long, and who does it."""

from scripts.grafana.panels import Json, Panel, Row, bad_from, dashboard, good_from, stat, variable


def _quantiles(metric: str) -> dict[str, str]:
    rate = f"sum by (le) (rate({metric}_bucket[$__rate_interval]))"
    return {f"p{share}": f"histogram_quantile(0.{share}, {rate})" for share in (50, 95, 99)}


def _ended(by: str, labels: str) -> str:
    """Each replica of work-marshaling counts every end: one of them is enough."""
    rate = f"rate(compute_work_ended_total{{{labels}}}[$__rate_interval])"
    return f"max by ({by}) (sum by (instance, {by}) ({rate}))"


def _events(event: str) -> str:
    return f'max(rate(compute_work_events_total{{event="{event}"}}[$__rate_interval]))'


_NOW = Row(
    "Now",
    (
        stat("Waiting", "Items that wait for a node.", "max(compute_work_pending)"),
        stat("Running", "Items that a node holds.", "max(compute_work_active)"),
        stat(
            "Oldest",
            "How long the oldest waiting item waits.",
            "max(compute_work_oldest_pending_seconds)",
            unit="s",
            steps=bad_from(60, 600),
        ),
        stat(
            "Set aside",
            "Items that failed on several nodes; GET /api/v1/work?set_aside=true lists them.",
            "max(compute_work_set_aside)",
            steps=bad_from(1),
        ),
        stat(
            "Blacklisted nodes",
            "Nodes that get no work of a type for a while, because they failed at it.",
            "max(compute_work_blacklisted_nodes)",
            steps=bad_from(1),
        ),
        stat(
            "Leader",
            "One replica of work-marshaling gives work away.",
            "sum(compute_work_leading)",
            words={0: "none", 1: "one"},
            steps=good_from(1),
        ),
    ),
)
_DEPTH = Row(
    "Queue",
    (
        Panel(
            "Waiting by priority",
            "0 is first, 9 is last.",
            {"priority {{priority}}": "max by (priority) (compute_work_pending_by_priority)"},
            stacked=True,
        ),
        Panel(
            "Waiting and running",
            "Items that have not ended.",
            {"waiting": "max(compute_work_pending)", "running": "max(compute_work_active)"},
        ),
        Panel(
            "Items kept by state",
            "Ended items are kept for a day.",
            {"{{status}}": "max by (status) (compute_work_items)"},
        ),
        Panel(
            "Wait",
            "From submission (or retry) to a node.",
            _quantiles("compute_work_wait_seconds"),
            "s",
        ),
        Panel("Run", "From a node to its completion.", _quantiles("compute_work_run_seconds"), "s"),
        Panel(
            "Age of the oldest waiting item",
            "It grows while nobody can do it; its waiting_for says why.",
            {"oldest": "max(compute_work_oldest_pending_seconds)"},
            "s",
            steps=bad_from(60, 600),
        ),
    ),
)
_FLOW = Row(
    "Flow",
    (
        Panel(
            "In and out",
            "Items a second.",
            {"submitted": _events("submitted"), "{{status}}": _ended("status", "")},
            "ops",
        ),
        Panel(
            "Completed by node",
            "Items a second.",
            {"{{node_id}}": _ended("node_id", 'status="completed", node_id=~"$node"')},
            "ops",
        ),
        Panel(
            "Failed by node",
            "Items a second that ended without a result; those given to no node have no name.",
            {"{{node_id}}": _ended("node_id", 'status="failed", node_id=~"$node"')},
            "ops",
        ),
        Panel(
            "Retries and expired leases",
            "A second.",
            {
                "retries": "max(rate(compute_work_retries_total[$__rate_interval]))",
                "expired": "max(rate(compute_work_timeouts_total[$__rate_interval]))",
            },
            "ops",
        ),
        Panel(
            "Records that changed nothing",
            "Late, repeated or forged messages in the log, a second, by reason.",
            {"{{reason}}": "max by (reason) (rate(compute_work_ignored_total[$__rate_interval]))"},
            "ops",
        ),
        Panel(
            "Submission, p95",
            "Until the log has it.",
            {
                "p95": "histogram_quantile(0.95, sum by (le) ("
                'rate(compute_http_request_duration_seconds_bucket{service="work-marshaling", '
                'route="/api/v1/work/submit"}[$__rate_interval])))'
            },
            "s",
        ),
    ),
)
_LOG = Row(
    "Work log",
    (
        Panel(
            "Size",
            "Of the stream that holds every event; it is purged behind what is still needed.",
            {"bytes": 'max(compute_jetstream_stored_bytes{stream="COMPUTE_WORK"})'},
            "bytes",
        ),
        Panel(
            "Messages",
            "In the log, and those a replica has not taken in yet.",
            {
                "in the log": 'max(compute_jetstream_messages{stream="COMPUTE_WORK"})',
                "not read by {{instance}}": "max by (instance) (compute_jetstream_consumer_pending_messages)",
            },
        ),
        Panel(
            "Records",
            "Written to the log, a second.",
            {
                "records": "max(rate(compute_jetstream_published_messages_total"
                '{stream="COMPUTE_WORK"}[$__rate_interval]))'
            },
            "ops",
        ),
    ),
)


def queue() -> Json:
    return dashboard(
        "work-queue",
        "Work Queue",
        "What waits, for how long, who does it, and the log it is kept in.",
        [variable("node", "Node", "compute_work_ended_total", "node_id")],
        (_NOW, _DEPTH, _FLOW, _LOG),
    )
