"""The HTTP routes of the benchmark runner."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from benchmark_runner.comparison import compare
from benchmark_runner.conductor import Conductor
from benchmark_runner.records import Records
from benchmark_runner.report import as_csv, as_html
from compute_common.enums import BenchmarkStatus
from compute_common.ids import Identifier
from compute_common.schemas.benchmark import (
    Benchmark,
    BenchmarkAccepted,
    BenchmarkCancelled,
    BenchmarkList,
    BenchmarkRequest,
    Cell,
    CompareRequest,
    Comparison,
    RecordedRun,
)
from compute_common.shell.routing import Cursor, Limit, new_router


def router(conductor: Conductor) -> APIRouter:
    r = new_router("benchmark")

    @r.post(
        "/api/v1/benchmark/run",
        status_code=202,
        response_model=BenchmarkAccepted,
        responses={200: {"model": Benchmark, "description": "The ended run, with `background: false`"}},
    )
    async def run(request: BenchmarkRequest) -> Response:
        """Measure cells batch_sizes × context_lengths; one run at a time, others wait."""
        accepted = await conductor.accept(request)
        if not request.background:
            ended = await conductor.records.wait(accepted.benchmark_id)
            return JSONResponse(ended.model_dump(mode="json"), 200)
        answer = BenchmarkAccepted(
            benchmark_id=accepted.benchmark_id, status=accepted.status, request_id=request.request_id
        )
        return JSONResponse(answer.model_dump(mode="json"), 202)

    @r.get("/api/v1/benchmark/{benchmark_id}", response_model=Benchmark)
    async def status(benchmark_id: Identifier) -> Benchmark:
        """A run with the cells it has so far."""
        return conductor.records.find(benchmark_id)

    @r.get(
        "/api/v1/benchmark/{benchmark_id}/events",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "description": "Server-sent events `progress`, `cell` and, last, `ended`",
            }
        },
    )
    async def events(benchmark_id: Identifier) -> StreamingResponse:
        """How a run goes on, from where it stands until it has ended."""
        conductor.records.find(benchmark_id)
        stream = conductor.records.feed.events(conductor.records.event(benchmark_id))
        return StreamingResponse(
            stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @r.delete("/api/v1/benchmark/{benchmark_id}", response_model=BenchmarkCancelled)
    async def cancel(benchmark_id: Identifier) -> BenchmarkCancelled:
        """End a run; finished cells are kept. One that has ended already is left as it is."""
        ended = await conductor.cancel(benchmark_id)
        return BenchmarkCancelled(benchmark_id=benchmark_id, status=ended.status, cells_kept=len(ended.cells))

    @r.get("/api/v1/benchmarks", response_model=BenchmarkList)
    async def benchmarks(
        limit: Limit = 100,
        cursor: Cursor = None,
        status: Annotated[BenchmarkStatus | None, Query(description="Only runs in this state")] = None,
    ) -> BenchmarkList:
        """Runs, newest first."""
        runs = [run for run in reversed(conductor.records.runs.values()) if status in (None, run.status)]
        ids = [run.benchmark_id for run in runs]
        begin = ids.index(cursor) + 1 if cursor in ids else 0
        page = runs[begin : begin + limit]
        more = begin + limit < len(runs)
        return BenchmarkList(
            benchmarks=page, count=len(page), next_cursor=page[-1].benchmark_id if more else None
        )

    return r


def result_router(records: Records) -> APIRouter:
    """A run for people and for other programs."""
    r = new_router("results")

    @r.get("/api/v1/benchmark/{benchmark_id}/report", response_class=HTMLResponse)
    async def report(benchmark_id: Identifier) -> HTMLResponse:
        """One self-contained page."""
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(as_html(records.find(benchmark_id)), headers=policy)

    @r.get(
        "/api/v1/benchmark/{benchmark_id}/export",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}, "application/json": {}}, "description": "The run"}},
    )
    async def export(benchmark_id: Identifier, format: Literal["csv", "json"] = "json") -> Response:  # noqa: A002  (the contract's name)
        """The run as a file."""
        run = records.find(benchmark_id)
        headers = {"Content-Disposition": f'attachment; filename="{benchmark_id}.{format}"'}
        if format == "csv":
            return Response(as_csv(run), media_type="text/csv", headers=headers)
        return Response(run.model_dump_json(indent=1), media_type="application/json", headers=headers)

    @r.post("/api/v1/benchmark/compare", response_model=Comparison)
    async def comparison(request: CompareRequest) -> Comparison:
        """Whether the candidate is worse than the baseline, cell by cell; either may be sent along."""
        return compare(
            _cells(records, request.baseline), _cells(records, request.candidate), request.thresholds
        )

    return r


def _cells(records: Records, named: str | RecordedRun) -> tuple[str, Sequence[Cell]]:
    run = records.find(named) if isinstance(named, str) else named
    return run.benchmark_id, run.cells
