"""Messages of engines, model files and benchmarks."""

from compute_common import subjects
from compute_common.schemas import benchmark, vllm
from scripts.wire.channel import Channel, Record
from vllm_orchestrator.downloads.schemas import PullRequest, PullStatus
from vllm_orchestrator.schemas import InstanceRef, StartOrder, StatusAsk


def _host(verb: str, record: Record, means: str, answer: Record = None) -> Channel:
    subject = f"compute.vllm.{verb}.v1.{{node}}"
    return Channel(
        subject, "request", "vllm-orchestrator", "that host's vllm-orchestrator", record, means, answer
    )


MODELS = (
    Channel(
        subjects.VLLM_REQUEST,
        "request",
        "anyone",
        "vllm-orchestrator",
        vllm.PlanRequest,
        "Deploy, or plan with `dry_run`; `request_id` is echoed",
        vllm.DeployAnswer,
    ),
    Channel(
        subjects.VLLM_INSTANCE,
        "event",
        "vllm-orchestrator",
        "nodes, node-registry, watchers",
        vllm.InstanceEvent,
        "An instance changed, and again every 15 s",
    ),
    Channel(
        subjects.VLLM_INSTANCES,
        "request",
        "vllm-orchestrator",
        "vllm-orchestrator",
        None,
        "The records of instances, for a host whose account has no JetStream",
        internal=True,
    ),
    _host(
        "start",
        StartOrder,
        "Deploy here, or start what is deployed, or one host's part of it",
        vllm.DeployAnswer,
    ),
    _host("stop", InstanceRef, "Stop an instance, or this host's part of it", vllm.StopAnswer),
    _host("status", StatusAsk, "This host's instances; the state of a part; a log", vllm.NodeInstances),
    _host(
        "pull",
        PullRequest,
        "Bring model files here; with `pull_id` its state, with `cancel` its end",
        PullStatus,
    ),
    Channel(
        subjects.VLLM_FILES,
        "request",
        "vllm-orchestrator",
        "every vllm-orchestrator",
        None,
        "Who has these files",
    ),
    _host("files", None, "A piece of a model file, from a node that has it"),
)
BENCHMARKS = (
    Channel(
        subjects.BENCHMARK_REQUEST,
        "request",
        "anyone",
        "benchmark-runner",
        benchmark.BenchmarkRequest,
        "Start a run",
        benchmark.BenchmarkAccepted,
    ),
    Channel(
        subjects.BENCHMARK_STATUS,
        "request",
        "anyone",
        "benchmark-runner",
        benchmark.BenchmarkRef,
        "How a run stands",
        benchmark.Benchmark,
    ),
    Channel(
        subjects.BENCHMARK_CANCEL,
        "request",
        "anyone",
        "benchmark-runner",
        benchmark.BenchmarkRef,
        "End a run, keep its cells",
        benchmark.BenchmarkCancelled,
    ),
    Channel(
        subjects.BENCHMARK_PROGRESS,
        "event",
        "benchmark-runner",
        "watchers",
        benchmark.BenchmarkProgressEvent,
        "A run went on",
    ),
    Channel(
        subjects.BENCHMARK_RESULT,
        "event",
        "benchmark-runner",
        "node-registry, watchers",
        benchmark.BenchmarkResult,
        "What a node delivers; the registry keeps it for placement",
    ),
)
