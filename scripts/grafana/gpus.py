"""gpu-utilization: each GPU, what is promised of it, and the host's RAM."""

from scripts.grafana.panels import Json, Panel, Row, bad_from, dashboard, good_from, share, stat, variable

_GPU = 'node_id=~"$node", device=~"$gpu"'
_RAM = 'node_id=~"$node", device="ram"'
_NAME = "{{node_id}} GPU {{device}}"


def _memory(kind: str, labels: str = _GPU) -> str:
    return f'sum by (node_id, device) (compute_memory_bytes{{{labels}, kind="{kind}"}})'


_NOW = Row(
    "Now",
    (
        stat(
            "GPUs",
            "GPUs that answer.",
            f"sum(compute_gpu_healthy{{{_GPU}}})",
            steps=good_from(1),
        ),
        stat(
            "GPUs that fail",
            "Lost, or with an error that needs a reset.",
            f"count(compute_gpu_healthy{{{_GPU}}} == 0) or vector(0)",
            steps=bad_from(1),
        ),
        stat(
            "Free GPU memory",
            "What a new reservation could take, all GPUs together.",
            f'sum(compute_memory_bytes{{{_GPU}, kind="available"}})',
            unit="bytes",
        ),
        stat(
            "Share reserved",
            "The share of GPU memory that is promised.",
            f"sum({_memory('reserved')}) / sum({_memory('total')})",
            unit="percentunit",
        ),
        stat(
            "Hottest",
            "The hottest GPU.",
            f"max(compute_gpu_temperature_celsius{{{_GPU}}})",
            unit="celsius",
            steps=bad_from(80, 90),
        ),
        stat("Power of all", "All GPUs together.", f"sum(compute_gpu_power_watts{{{_GPU}}})", unit="watt"),
    ),
)
_USE = Row(
    "Each GPU",
    (
        share(
            "Utilisation",
            "The share of time in which the GPU did something.",
            {_NAME: f"compute_gpu_utilization_ratio{{{_GPU}}}"},
        ),
        Panel(
            "Temperature",
            "Cards slow down from about 85 °C.",
            {_NAME: f"compute_gpu_temperature_celsius{{{_GPU}}}"},
            "celsius",
            steps=bad_from(80, 90),
        ),
        Panel(
            "Power",
            "What a GPU draws.",
            {_NAME: f"compute_gpu_power_watts{{{_GPU}}}"},
            "watt",
        ),
        Panel(
            "Power against its limit",
            "At 1 the card holds itself back.",
            {_NAME: f"compute_gpu_power_watts{{{_GPU}}} / compute_gpu_power_limit_watts{{{_GPU}}}"},
            "percentunit",
            steps=bad_from(0.98),
        ),
        Panel(
            "Health",
            "ok, or fails: nothing new is placed there.",
            {_NAME: f"compute_gpu_healthy{{{_GPU}}}"},
            kind="stat",
            words={0: "fails", 1: "ok"},
            steps=good_from(1),
        ),
        Panel(
            "Memory level",
            "0 ok, 1 watch, 2 warn, 3 critical.",
            {_NAME: f"compute_memory_level{{{_GPU}}}"},
            steps=bad_from(1, 3),
            most=3,
        ),
    ),
)
_MEMORY = Row(
    "GPU memory",
    (
        Panel("Used", "By whomever.", {_NAME: _memory("used")}, "bytes"),
        Panel("Reserved", "Promised by the ledger.", {_NAME: _memory("reserved")}, "bytes"),
        Panel(
            "Foreign",
            "Used by processes that no reservation covers.",
            {_NAME: _memory("foreign")},
            "bytes",
        ),
        Panel("Free", "Not used by anybody.", {_NAME: f"{_memory('total')} - {_memory('used')}"}, "bytes"),
        Panel(
            "Available",
            "What a new reservation may take: what is neither used nor promised, less the margin.",
            {_NAME: _memory("available")},
            "bytes",
        ),
        Panel(
            "Reserved and not used",
            "What reservations promise beyond what their engines use; below zero they use more than that.",
            {_NAME: f"{_memory('reserved')} - ({_memory('used')} - {_memory('foreign')})"},
            "bytes",
            least=None,
        ),
    ),
)
_LEDGER = Row(
    "Ledger and RAM",
    (
        Panel(
            "Reservations",
            "Made, and bound to a running engine.",
            {"{{node_id}} {{state}}": 'sum by (node_id, state) (compute_gpu_reservations{node_id=~"$node"})'},
        ),
        Panel(
            "Changes of the ledger",
            "A second, by kind.",
            {"{{event}}": "sum by (event) (rate(compute_gpu_reservation_events_total[$__rate_interval]))"},
            "ops",
        ),
        Panel(
            "RAM",
            "Used, and available to new reservations.",
            {
                "{{node_id}} used": _memory("used", _RAM),
                "{{node_id}} available": _memory("available", _RAM),
                "{{node_id}} total": _memory("total", _RAM),
            },
            "bytes",
        ),
        Panel(
            "Minutes until RAM is used up",
            "At the present rate; 60 stands for an hour or more, or never.",
            {"{{node_id}}": f"clamp_max(compute_memory_predicted_oom_seconds{{{_RAM}}} / 60, 60)"},
            "m",
            steps=((None, "red"), (5, "orange"), (30, "green")),
        ),
        Panel(
            "Minutes until GPU memory is used up",
            "At the present rate; 60 stands for an hour or more, or never.",
            {_NAME: f"clamp_max(compute_memory_predicted_oom_seconds{{{_GPU}}} / 60, 60)"},
            "m",
            steps=((None, "red"), (5, "orange"), (30, "green")),
        ),
        Panel(
            "RAM level",
            "0 ok, 1 watch, 2 warn, 3 critical.",
            {"{{node_id}}": f"compute_memory_level{{{_RAM}}}"},
            steps=bad_from(1, 3),
            most=3,
        ),
    ),
)


def gpus() -> Json:
    return dashboard(
        "gpu-utilization",
        "GPU Utilization",
        "Every GPU of the scraped hosts: use, memory, reservations, health; and RAM.",
        [
            variable("node", "Node", "compute_memory_bytes", "node_id"),
            variable("gpu", "GPU", 'compute_gpu_healthy{node_id=~"$node"}', "device"),
        ],
        (_NOW, _USE, _MEMORY, _LEDGER),
    )
