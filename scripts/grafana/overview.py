"""compute-overview: is all well, and where is it not."""

from scripts.grafana.panels import Json, Panel, Row, bad_from, dashboard, good_from, share, stat, variable

_REQUESTS = "compute_http_request_duration_seconds"
_RATE = f"sum by (service) (rate({_REQUESTS}_count[$__rate_interval]))"
_FAILED = f'sum by (service) (rate({_REQUESTS}_count{{status=~"5.."}}[$__rate_interval]))'
_LEVELS = {0: "ok", 1: "watch", 2: "warn", 3: "critical"}

_NOW = Row(
    "Now",
    (
        stat(
            "Nodes online",
            "Nodes that beat.",
            "sum(max by (tier) (compute_nodes_online))",
            steps=good_from(1),
        ),
        stat(
            "Nodes lost",
            "Known to the registry, and silent for more than four beats. Delete a node that went for good.",
            'max(compute_nodes{status="offline"})',
            steps=bad_from(1),
        ),
        stat(
            "Stale nodes",
            "Online, and silent for half of what they may be.",
            "max(compute_nodes_stale)",
            steps=bad_from(1),
        ),
        stat(
            "Services answering",
            "The share of scraped services that answer.",
            'avg(up{job="compute"})',
            unit="percentunit",
            steps=((None, "red"), (1, "green")),
        ),
        stat(
            "Memory",
            "The worst memory level of any host's RAM or GPU.",
            "max(compute_memory_level)",
            words=_LEVELS,
            steps=((None, "green"), (1, "yellow"), (2, "orange"), (3, "red")),
        ),
        stat(
            "Alerts",
            "Alerts that fire.",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
            steps=bad_from(1),
        ),
    ),
)
_NODES = Row(
    "Nodes",
    (
        Panel(
            "Nodes online by tier",
            "As the registry counts them.",
            {"{{tier}}": "max by (tier) (compute_nodes_online)"},
            stacked=True,
        ),
        share(
            "CPU by node",
            "The share of a node's CPUs that is busy, as it says in its heartbeat.",
            {"{{node_id}}": 'max by (node_id) (compute_utilization_cpu{node_id=~"$node"})'},
        ),
        share(
            "RAM by node",
            "The share of a node's RAM that is used.",
            {"{{node_id}}": 'max by (node_id) (compute_utilization_memory{node_id=~"$node"})'},
            steps=bad_from(0.85, 0.95),
        ),
        Panel(
            "GPU memory of the fleet",
            "Of online nodes, as they tell the registry.",
            {
                "total": "max(compute_nodes_gpu_memory_bytes)",
                "free": "max(compute_nodes_gpu_memory_available_bytes)",
            },
            "bytes",
        ),
        share(
            "GPU use by node",
            "The mean over a node's GPUs.",
            {"{{node_id}}": 'max by (node_id) (compute_utilization_gpu{node_id=~"$node"})'},
        ),
        Panel(
            "Seconds to out of memory",
            "At the present rate; an hour stands for an hour or more, or never.",
            {
                "{{node_id}} {{device}}": "clamp_max(min by (node_id, device) "
                '(compute_memory_predicted_oom_seconds{node_id=~"$node"}), 3600)'
            },
            "s",
            steps=((None, "red"), (300, "orange"), (1800, "green")),
        ),
    ),
)
_WORK = Row(
    "Models and work",
    (
        Panel(
            "Instances by state",
            "Of every scraped host.",
            {"{{status}}": "sum by (status) (compute_instances)"},
            stacked=True,
        ),
        Panel(
            "Reservations",
            "Of GPU memory and RAM: made, and bound to a running engine.",
            {"{{node_id}} {{state}}": 'sum by (node_id, state) (compute_gpu_reservations{node_id=~"$node"})'},
        ),
        Panel(
            "Work",
            "Items that a second brings and ends.",
            {
                "submitted": 'max(rate(compute_work_events_total{event="submitted"}[$__rate_interval]))',
                "{{status}}": "max by (status) (sum by (instance, status) "
                "(rate(compute_work_ended_total[$__rate_interval])))",
            },
            "ops",
        ),
    ),
)
_HTTP = Row(
    "Services",
    (
        Panel("Requests", "By service.", {"{{service}}": _RATE}, "reqps"),
        Panel(
            "Share of failed requests",
            "Answered with 5xx.",
            {"{{service}}": f"({_FAILED} or {_RATE} * 0) / {_RATE}"},
            "percentunit",
            steps=bad_from(0.01, 0.05),
        ),
        Panel(
            "Duration of a request, p95",
            "Long polls and streams count with their whole time.",
            {
                "{{service}}": "histogram_quantile(0.95, sum by (service, le) "
                f"(rate({_REQUESTS}_bucket[$__rate_interval])))"
            },
            "s",
        ),
        Panel(
            "Resident memory",
            "Of each service's process.",
            {"{{instance}}": 'process_resident_memory_bytes{job="compute"}'},
            "bytes",
        ),
        Panel(
            "CPU",
            "CPU seconds a second of each service's process.",
            {"{{instance}}": 'rate(process_cpu_seconds_total{job="compute"}[$__rate_interval])'},
            "percentunit",
        ),
        Panel(
            "Bus messages refused",
            "Messages a service could not use (rejected), or failed on (error), a second.",
            {
                "{{service}} {{outcome}}": "sum by (service, outcome) "
                "(rate(compute_bus_messages_total[$__rate_interval]))"
            },
            "ops",
        ),
    ),
)
_NATS = Row(
    "NATS and JetStream",
    (
        Panel(
            "Connected to NATS",
            "1 while connected.",
            {"{{service}} {{instance}}": "compute_nats_connected"},
            words={0: "no", 1: "yes"},
            kind="stat",
            steps=good_from(1),
        ),
        Panel(
            "Reconnects",
            "Connections that were lost and made again.",
            {"{{service}} {{instance}}": "increase(compute_nats_reconnects_total[$__rate_interval])"},
            steps=bad_from(1),
        ),
        Panel(
            "NATS messages",
            "In and out of the services, a second.",
            {
                "in": "sum(rate(compute_nats_received_messages_total[$__rate_interval]))",
                "out": "sum(rate(compute_nats_sent_messages_total[$__rate_interval]))",
            },
            "ops",
        ),
        Panel(
            "Unsent",
            "Published, and still in a process's buffer: it grows while NATS is slow or away.",
            {"{{service}} {{instance}}": "compute_nats_unsent_bytes"},
            "bytes",
            steps=bad_from(1 << 20),
        ),
        Panel(
            "Bytes of streams",
            "On the servers' disks.",
            {"{{stream}}": "max by (stream) (compute_jetstream_stored_bytes)"},
            "bytes",
        ),
        share(
            "Disk of JetStream",
            "The share of what a server may store; at 1 it accepts nothing more.",
            {"{{server}}": "compute_nats_server_stored_bytes / (compute_nats_server_store_limit_bytes > 0)"},
            steps=bad_from(0.8, 0.95),
        ),
        Panel(
            "Server connections",
            "To each NATS server.",
            {"{{server}} connections": "compute_nats_server_connections"},
        ),
        Panel(
            "Slow consumers",
            "Messages that were dropped because a service could not keep up; the log is read again then.",
            {"{{service}} {{instance}}": "increase(compute_nats_slow_consumers_total[$__rate_interval])"},
            steps=bad_from(1),
        ),
    ),
)


def overview() -> Json:
    return dashboard(
        "compute-overview",
        "Distributed Compute Overview",
        "Nodes, models, work, services and NATS at a glance.",
        [variable("node", "Node", "compute_node_online", "node_id")],
        (_NOW, _NODES, _WORK, _HTTP, _NATS),
    )
