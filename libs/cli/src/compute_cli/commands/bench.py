"""Measuring a deployed model, and telling whether it has become slower."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from compute_cli import views
from compute_cli.client import Services
from compute_cli.console import AsJson, fail, show, stderr

SERVICE = "benchmark-runner"
REGRESSED, INCOMPLETE = 3, 4


def bench(
    model: Annotated[
        str | None, typer.Argument(help="A deployed model; without it past runs are listed.")
    ] = None,
    batch: Annotated[list[int], typer.Option("--batch", help="Concurrency; may repeat.")] = [1, 4],  # noqa: B006
    context: Annotated[list[int], typer.Option("--context", help="Prompt tokens; may repeat.")] = [512],  # noqa: B006
    output_tokens: Annotated[int, typer.Option(help="Tokens per answer.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, max=20, help="Times each cell is measured.")] = 3,
    rate: Annotated[
        list[float] | None, typer.Option("--rate", help="Open loop: requests a second; may repeat.")
    ] = None,
    find_rate: Annotated[
        bool, typer.Option("--find-rate", help="Search the highest rate within the SLO.")
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="A run's id or its JSON export: exit 3 when the new run is worse.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a deployed model."""
    with Services(timeout_seconds=3600) as services:
        if model is None:
            answer = services.get(SERVICE, "/api/v1/benchmarks")
            show(answer, as_json, lambda found: views.benchmarks_table(found["benchmarks"]))
            return
        body = {
            "model_name": model,
            "batch_sizes": batch,
            "context_lengths": context,
            "output_tokens": output_tokens,
            "repeats": repeats,
            "request_rates": rate or [],
            "find_max_rate": find_rate,
        }
        run = _measured(services, body)
        if report is not None:
            report.write_text(
                services.text(SERVICE, f"/api/v1/benchmark/{run['benchmark_id']}/report"), "utf-8"
            )
        ended = run["status"] == "completed"
        judged = (
            _compared(services, _run_or_file(baseline), run["benchmark_id"]) if baseline and ended else None
        )
    if as_json:
        show(run if judged is None else run | {"comparison": judged}, as_json, str)
    else:
        show(run, as_json, views.cells_table)
        if judged is not None:
            show(judged, as_json, views.comparison_table)
    if not ended:
        raise fail(f"the run {run['status']}: {run.get('error')}")
    _leave(judged)


def compare(
    baseline: Annotated[str, typer.Argument(help="A run's id, or the file of its JSON export.")],
    candidate: Annotated[str, typer.Argument(help="The run that may have become worse.")],
    throughput: Annotated[float, typer.Option(help="Tolerated loss of throughput, percent.")] = 5.0,
    latency: Annotated[float, typer.Option(help="Tolerated growth of latency, percent.")] = 10.0,
    memory: Annotated[float, typer.Option(help="Tolerated growth of memory, percent.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Compare two benchmark runs: exit 3 for a regression, 4 when something could not be compared."""
    limits = {"throughput": throughput / 100, "latency": latency / 100, "memory": memory / 100}
    with Services() as services:
        judged = _compared(services, _run_or_file(baseline), _run_or_file(candidate), limits)
    show(judged, as_json, views.comparison_table)
    _leave(judged)


def _measured(services: Services, body: dict[str, Any]) -> dict[str, Any]:
    """The run once it has ended, with its progress on the terminal meanwhile; Ctrl-C cancels it."""
    accepted = services.post(SERVICE, "/api/v1/benchmark/run", body)
    path = f"/api/v1/benchmark/{quote(accepted['benchmark_id'], safe='')}"
    try:
        with stderr.status("waiting") as status:
            for _kind, data in services.events(SERVICE, f"{path}/events"):
                progress = json.loads(data)["progress"]
                words = f"{progress.get('phase') or 'waiting'} {progress.get('current') or ''}"
                status.update(f"{words.strip()}: {progress.get('percent') or 0:.0f} %")
    except KeyboardInterrupt:
        services.delete(SERVICE, path)
        raise
    return services.get(SERVICE, path)


def _compared(
    services: Services, baseline: object, candidate: object, limits: dict[str, float] | None = None
) -> dict[str, Any]:
    body = {"baseline": baseline, "candidate": candidate, "thresholds": limits or {}}
    return services.post(SERVICE, "/api/v1/benchmark/compare", body)


def _leave(judged: dict[str, Any] | None) -> None:
    """The exit code of a comparison."""
    if judged is not None and judged["regressed"]:
        raise typer.Exit(REGRESSED)
    if judged is not None and not judged["complete"]:
        raise typer.Exit(INCOMPLETE)


def _run_or_file(given: str) -> object:
    """The id as it is, or what a comparison needs of an export."""
    path = Path(given)
    if not path.is_file():
        return given
    try:
        run = json.loads(path.read_text("utf-8"))
        return {"benchmark_id": path.stem[:128], "model_name": run["model_name"], "cells": run["cells"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fail(f"{given} is not the JSON export of a run") from error
