"""Benchmark runs on the wire."""

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from compute_common.enums import BenchmarkStatus, EngineKind
from compute_common.ids import Identifier
from compute_common.schemas.base import JsonObject, Name, Page, Wire
from compute_common.times import UtcTime

BatchSize = Annotated[int, Field(ge=1, le=4096)]
ContextLength = Annotated[int, Field(ge=1, le=1 << 21)]


Rate = Annotated[float, Field(gt=0, le=10_000, description="Requests a second")]
Limit = Annotated[float, Field(gt=0, le=1e9)]


class SloRequest(Wire):
    """What a request must keep to count as goodput, milliseconds; None: no such limit."""

    ttft_ms: Limit | None = None
    tpot_ms: Limit | None = None
    e2e_ms: Limit | None = None
    attainment: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="Share of the requests that must keep it for a rate to count as kept"
    )


class BenchmarkRequest(Wire):
    """Cells batch_sizes × context_lengths against an instance, an endpoint or a model path."""

    model_name: Annotated[str, Field(min_length=1, max_length=256)]
    model_path: Name | None = None
    endpoint: Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s]+$")] | None = None
    instance_name: Identifier | None = None
    engine: EngineKind | None = None
    tool: Literal["builtin", "llama-throughput-lab", "aiperf"] = "builtin"
    api: Literal["completions", "chat"] | None = Field(
        None, description="None: completions where the server has them, else chat"
    )
    gpu_count: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None, description="GPUs of a temporary instance; 0: processor only; None: as the planner finds best"
    )
    batch_sizes: Annotated[list[BatchSize], Field(min_length=1, max_length=64)] = [1]
    context_lengths: Annotated[list[ContextLength], Field(min_length=1, max_length=64)] = [512]
    output_tokens: Annotated[int, Field(ge=1, le=65_536)] = 64
    iterations: Annotated[
        int, Field(ge=1, le=100, validation_alias=AliasChoices("iterations", "num_iterations"))
    ] = 1
    repeats: Annotated[int, Field(ge=1, le=20)] = Field(
        3, description="Times a cell is measured; their spread gives the confidence intervals"
    )
    warmup: Annotated[int, Field(ge=0, le=100)] = 1
    shared_prefix_tokens: Annotated[int, Field(ge=0, le=1 << 21)] = Field(
        0, description="First tokens all prompts of a cell have in common, and the cache may answer for"
    )
    request_rates: Annotated[list[Rate], Field(max_length=64)] = Field(
        [], description="Open loop: these instead of batch_sizes, latency from the scheduled send time"
    )
    rate_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(10.0, description="Length of an open loop")
    find_max_rate: bool = Field(False, description="Search the highest rate that keeps the SLO, per context")
    slo: SloRequest | None = None
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


class Interval(Wire):
    """Mean over repeats and its 95 % confidence interval (Student's t)."""

    mean: float
    low: float
    high: float


class ResourceUse(Wire):
    """Of the target's host while the cell was measured; None where nobody could read it."""

    ram_used_mb: int | None = Field(None, description="Highest seen, whole host")
    vram_used_mb: int | None = Field(None, description="Highest sum seen over the instance's GPUs")
    power_w: float | None = Field(None, description="Mean over the instance's GPUs together")
    tokens_per_joule: float | None = None
    samples: int = 0


class Cell(Wire):
    batch_size: int = Field(description="Concurrency; in an open loop the most that may be under way")
    context_length: int
    output_tokens: int
    valid: bool
    errors: int
    error_kinds: dict[str, int] = {}
    requests: int = 0
    repeats: int = 1
    partial: bool = Field(False, description="Cut off by a cancel or a stop: its numbers cover a part only")
    request_rate: float | None = Field(None, description="Open loop: requests a second")
    slo_attainment: float | None = Field(None, description="Share of all requests that kept the SLO")
    prompt_tokens: list[int] | None = Field(None, description="Fewest and most, by the server's own count")
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
    generator_stall_ms: Percentiles = Field(
        Percentiles(), description="How late a timer of the generator was: its time stamps are as late"
    )
    generator_cpu_us_per_chunk: float | None = None
    intervals: dict[str, Interval] = Field({}, description="95 % confidence, with two repeats or more")
    resources: ResourceUse | None = None
    note: str | None = None


class BenchmarkProgress(Wire):
    cells_done: int
    cells_total: int
    current: str | None = None
    phase: str | None = Field(None, description="starting, preparing, warm-up, measuring, stopping")
    requests_done: int | None = Field(None, description="Of the current cell")
    requests_total: int | None = None
    percent: float | None = None


class MaxRate(Wire):
    """The highest rate found to keep the SLO."""

    context_length: int
    requests_per_s: float = Field(description="0: not even the lowest rate tried")
    attainment: float
    limited_by: str = Field(
        description="slo, generator (it could not send faster), or ceiling (nothing broke it)"
    )


class Benchmark(Wire):
    benchmark_id: str
    status: BenchmarkStatus
    model_name: str
    instance_name: str | None = None
    node_id: str | None = None
    engine: str | None = None
    progress: BenchmarkProgress
    cells: list[Cell] = []
    max_rates: list[MaxRate] = []
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
    also_named: list[str] = Field([], max_length=16, description="Other names under which work asks for it")
    instance_name: str | None = None
    node_id: str | None = None
    engine: str | None = None
    cells: list[Cell]
    finished_at: UtcTime
    v: int = 1


class BenchmarkProgressEvent(Wire):
    """`compute.benchmark.progress.v1`, and each event of a run's stream."""

    benchmark_id: str
    status: BenchmarkStatus
    progress: BenchmarkProgress
    cell: Cell | None = Field(None, description="The cell that has just ended")
    error: str | None = None
    timestamp: UtcTime
    v: int = 1


class Thresholds(Wire):
    """How much worse is a regression, as a share of the baseline."""

    throughput: Annotated[float, Field(gt=0, le=1)] = 0.05
    latency: Annotated[float, Field(gt=0, le=100)] = 0.10
    memory: Annotated[float, Field(gt=0, le=100)] = 0.10


class RecordedRun(Wire):
    """A run from elsewhere, e.g. its JSON export: only what a comparison needs."""

    benchmark_id: Annotated[str, Field(max_length=128)] = "given"
    model_name: Annotated[str, Field(max_length=256)] = ""
    cells: Annotated[list[Cell], Field(max_length=10_000)]


class CompareRequest(Wire):
    """Two runs, each by id or as a recorded run."""

    baseline: Identifier | RecordedRun
    candidate: Identifier | RecordedRun
    thresholds: Thresholds = Thresholds()


class MetricChange(Wire):
    cell: str
    metric: str
    baseline: float
    candidate: float
    change: float = Field(description="Share of the baseline; 0.1 is ten percent more")
    verdict: Literal["better", "same", "worse", "regression"]
    within_noise: bool = Field(False, description="The confidence intervals of both overlap")


class Comparison(Wire):
    baseline: str
    candidate: str
    regressed: bool
    complete: bool = Field(description="Every valid cell of the baseline was compared")
    changes: list[MetricChange]
    not_compared: list[str] = Field([], description="Cells that only one has, or that are not valid, and why")
    thresholds: Thresholds
