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
    """A plain table; None becomes a dash. What is too long for its column goes on below: no name is cut."""
    out = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        out.add_column(column, overflow="fold")
    for row in rows:
        out.add_row(*(Text("–" if value is None else str(value)) for value in row))
    return out


def nodes_table(nodes: Sequence[Row]) -> Table:
    """With a column of versions where several run."""
    versions = [node.get("compute_version") for node in nodes]
    mixed = len({version for version in versions if version}) > 1
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
            *((node.get("compute_version"),) if mixed else ()),
        )
        for node in nodes
    )
    columns = ("node", "status", "tier", "threads", "RAM", "GPUs", "VRAM", "models")
    return table("Nodes", (*columns, "version") if mixed else columns, rows)


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
            None if instance["status"] == "ready" else instance.get("last_error"),  # of the past then
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


def cells_table(run: Row) -> Table:
    rows = (
        (
            cell["batch_size"] if cell.get("request_rate") is None else f"{cell['request_rate']:g}/s",
            cell["context_length"],
            cell["output_tokens_per_s"],
            _spread(cell["intervals"].get("output_tokens_per_s")),
            cell["ttft_ms"]["p50"],
            cell["ttft_ms"]["p99"],
            cell["tpot_ms"]["p50"],
            cell["errors"],
            "yes" if cell["valid"] else "no",
            cell.get("note"),
        )
        for cell in run["cells"]
    )
    columns = (
        "batch",
        "context",
        "tokens/s",
        "±",
        "TTFT p50 ms",
        "p99",
        "TPOT p50 ms",
        "errors",
        "valid",
        "note",
    )
    found = "; ".join(
        f"at {rate['context_length']} tokens up to {rate['requests_per_s']:g}/s ({rate['limited_by']})"
        for rate in run.get("max_rates", [])
    )
    title = f"{run['benchmark_id']}: {run['status']}" + (f"; {found}" if found else "")
    return table(title, columns, rows)


def comparison_table(found: Row) -> Table:
    """What changed beyond its threshold first, then the rest."""
    order = {"regression": 0, "worse": 1, "better": 2, "same": 3}
    rows = [
        (
            change["verdict"] + (" (within noise)" if change["within_noise"] else ""),
            change["cell"],
            change["metric"],
            f"{change['baseline']:.4g}",
            f"{change['candidate']:.4g}",
            f"{change['change']:+.1%}",
        )
        for change in sorted(found["changes"], key=lambda change: order[change["verdict"]])
    ]
    rows += [("not compared", words, "", "", "", "") for words in found["not_compared"]]
    verdict = "regressed" if found["regressed"] else "no regression" if found["complete"] else "incomplete"
    title = f"{found['candidate']} against {found['baseline']}: {verdict}"
    return table(title, ("verdict", "cell", "metric", "before", "after", "change"), rows)


def _spread(interval: Row | None) -> str | None:
    return None if interval is None else f"{(interval['high'] - interval['low']) / 2:.3g}"


def place_words(place: Row) -> str:
    """A placement as `node:gpu,gpu`."""
    gpus = ",".join(str(index) for index in place["gpu_indices"])
    return f"{place['node_id']}:{gpus}" if gpus else str(place["node_id"])
