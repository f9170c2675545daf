"""Benchmark runs on the wire."""

from typing import Annotated

from pydantic import AliasChoices, Field

from compute_common.enums import BenchmarkStatus, EngineKind
from compute_common.ids import Identifier
from compute_common.schemas.base import JsonObject, Name, Page, Wire
from compute_common.times import UtcTime

BatchSize = Annotated[int, Field(ge=1, le=4096)]
ContextLength = Annotated[int, Field(ge=1, le=1 << 21)]


class BenchmarkRequest(Wire):
    """Cells batch_sizes × context_lengths against an instance, an endpoint or a model path."""

    model_name: Annotated[str, Field(min_length=1, max_length=256)]
    model_path: Name | None = None
    endpoint: Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s]+$")] | None = None
    instance_name: Identifier | None = None
    engine: EngineKind | None = None
    gpu_count: Annotated[int, Field(ge=0, le=1024)] = 1
    batch_sizes: Annotated[list[BatchSize], Field(min_length=1, max_length=64)] = [1]
    context_lengths: Annotated[list[ContextLength], Field(min_length=1, max_length=64)] = [512]
    output_tokens: Annotated[int, Field(ge=1, le=65_536)] = 64
    iterations: Annotated[
        int, Field(ge=1, le=100, validation_alias=AliasChoices("iterations", "num_iterations"))
    ] = 1
    warmup: Annotated[int, Field(ge=0, le=100)] = 1
    background: bool = True
    publish: Annotated[bool, Field(validation_alias=AliasChoices("publish", "publish_to_tensorzero"))] = True
    tensor_parallel_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    pipeline_parallel_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    gpu_indices: Annotated[list[Annotated[int, Field(ge=0, le=4096)]], Field(max_length=256)] | None = None
    seed: int = Field(0, ge=0, le=1 << 31)
    request_id: Name | None = None


class Percentiles(Wire):
    """Milliseconds, from raw samples; None where there were none."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


class Cell(Wire):
    batch_size: int
    context_length: int
    output_tokens: int
    valid: bool
    errors: int
    error_kinds: dict[str, int] = {}
    requests: int = 0
    duration_s: float = 0.0
    ttft_ms: Percentiles = Percentiles()
    itl_ms: Percentiles = Percentiles()
    tpot_ms: Percentiles = Percentiles()
    e2e_ms: Percentiles = Percentiles()
    output_tokens_per_s: float = 0.0
    total_tokens_per_s: float = 0.0
    requests_per_s: float = 0.0
    goodput_per_s: float = 0.0
    send_lateness_ms: Percentiles = Percentiles()
    note: str | None = None


class BenchmarkProgress(Wire):
    cells_done: int
    cells_total: int
    current: str | None = None


class Benchmark(Wire):
    benchmark_id: str
    status: BenchmarkStatus
    model_name: str
    instance_name: str | None = None
    node_id: str | None = None
    engine: str | None = None
    progress: BenchmarkProgress
    cells: list[Cell] = []
    environment: JsonObject = {}
    request: JsonObject = {}
    error: str | None = None
    created_at: UtcTime
    started_at: UtcTime | None = None
    finished_at: UtcTime | None = None


class BenchmarkAccepted(Wire):
    benchmark_id: str
    status: BenchmarkStatus
    request_id: str | None = None


class BenchmarkCancelled(Wire):
    benchmark_id: str
    status: BenchmarkStatus
    cells_kept: int


class BenchmarkList(Page):
    benchmarks: list[Benchmark]


class BenchmarkRef(Wire):
    benchmark_id: Identifier
    request_id: Name | None = None


class BenchmarkResult(Wire):
    """`compute.benchmark.result.v1`: what the registry feeds into placement."""

    benchmark_id: str
    model_name: str
    instance_name: str | None = None
    node_id: str | None = None
    engine: str | None = None
    cells: list[Cell]
    finished_at: UtcTime
    v: int = 1
