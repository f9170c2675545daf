"""Answers as tables for people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]


def gib(mib: float | None) -> str:
    """MiB as a readable size."""
    return "?" if mib is None else f"{mib / 1024:.1f} GiB"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A plain table; None becomes a dash."""
    out = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        out.add_row(*(Text("–" if value is None else str(value)) for value in row))
    return out


def nodes_table(nodes: Iterable[Row]) -> Table:
    rows = (
        (
            node["node_id"],
            node["status"],
            node["tier"],
            node.get("cpu_threads"),
            gib((node.get("memory") or {}).get("total_mb")),
            ", ".join(node.get("gpu_models", [])) or None,
            gib(node["gpu_vram_mb"]) if node.get("gpu_count") else None,
            ", ".join(node.get("supported_models") or []) or None,
        )
        for node in nodes
    )
    return table("Nodes", ("node", "status", "tier", "threads", "RAM", "GPUs", "VRAM", "models"), rows)


def instances_table(instances: Iterable[Row]) -> Table:
    rows = (
        (
            instance["instance_name"],
            instance["status"],
            instance["model_name"],
            instance["engine"],
            instance["strategy"],
            ", ".join(place_words(place) for place in instance["placement"]),
            instance["endpoints"].get("api"),
            instance.get("last_error"),
        )
        for instance in instances
    )
    return table(
        "Instances", ("name", "status", "model", "engine", "strategy", "where", "endpoint", "error"), rows
    )


def work_table(items: Iterable[Row]) -> Table:
    rows = (
        (
            item["work_id"],
            item["status"],
            item["work_type"],
            item.get("model_name"),
            item["priority"],
            item.get("assigned_node"),
            item.get("attempt"),
            item.get("waiting_for") or item.get("error_message"),
        )
        for item in items
    )
    return table("Work", ("id", "status", "type", "model", "priority", "node", "attempt", "why"), rows)


def benchmarks_table(benchmarks: Iterable[Row]) -> Table:
    rows = (
        (
            run["benchmark_id"],
            run["status"],
            run["model_name"],
            f"{run['progress']['cells_done']}/{run['progress']['cells_total']}",
            max((cell["output_tokens_per_s"] for cell in run.get("cells", [])), default=None),
            run.get("error"),
        )
        for run in benchmarks
    )
    return table("Benchmarks", ("id", "status", "model", "cells", "best tokens/s", "error"), rows)


def place_words(place: Row) -> str:
    """A placement as `node:gpu,gpu`."""
    gpus = ",".join(str(index) for index in place["gpu_indices"])
    return f"{place['node_id']}:{gpus}" if gpus else str(place["node_id"])
