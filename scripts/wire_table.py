"""Every NATS subject: who speaks, who listens, and the record on it.

docs/nats-subjects.md and docs/asyncapi.yaml are made from this table; a test holds it against the code."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from compute_common import subjects
from compute_common.schemas import benchmark, checkup, gpu, node, vllm, work
from compute_common.schemas.memory import NodeMemoryLevel
from vllm_orchestrator.downloads.schemas import PullRequest, PullStatus
from vllm_orchestrator.schemas import InstanceRef, StartOrder, StatusAsk

Kind = Literal["message", "event", "request"]
Record = type[BaseModel] | None


@dataclass(frozen=True)
class Channel:
    """One subject; `{node}` in it is a node id as a token (`.` written `=2E`)."""

    subject: str
    kind: Kind
    speaker: str
    listener: str
    record: Record
    means: str
    answer: Record = None
    internal: bool = False


def _ledger(verb: str, record: Record, means: str, answer: Record) -> Channel:
    return Channel(
        f"compute.gpu.{verb}.v1.{{node}}",
        "request",
        "anyone",
        "that host's gpu-orchestrator",
        record,
        means,
        answer,
    )


def _host(verb: str, record: Record, means: str, answer: Record = None) -> Channel:
    subject = f"compute.vllm.{verb}.v1.{{node}}"
    return Channel(
        subject, "request", "vllm-orchestrator", "that host's vllm-orchestrator", record, means, answer
    )


NODES = (
    Channel(
        subjects.NODES_ANNOUNCE,
        "message",
        "nodes",
        "node-registry",
        node.NodeDocument,
        "What a node is, nested or flat, whole or partial; fields merge",
    ),
    Channel(
        subjects.NODES_HEARTBEAT,
        "message",
        "nodes",
        "node-registry",
        node.Heartbeat,
        "A sign of life with load; four missed beats and a second make a node offline",
    ),
    Channel(
        subjects.NODES_QUERY,
        "request",
        "anyone",
        "every node-registry",
        node.NodeQuery,
        "The nodes that match, best first; the first answer counts",
        node.NodesAnswer,
    ),
    Channel(
        subjects.NODES_DRAIN,
        "message",
        "node-registry",
        "node-registry",
        node.NodeDrain,
        "An operator's drain, applied by every replica",
    ),
    Channel(
        subjects.NODES_REMOVE,
        "message",
        "node-registry",
        "node-registry",
        node.NodeRemove,
        "A node is taken out, by every replica",
    ),
    Channel(
        subjects.NODES_REANNOUNCE,
        "message",
        "node-registry",
        "nodes",
        node.Reannounce,
        "This node (`*`: every node) is asked to announce itself again",
    ),
    Channel(
        subjects.NODES_EVENT,
        "event",
        "node-registry",
        "watchers",
        node.NodeEvent,
        "joined, updated, draining, offline, removed; from the replica that writes",
    ),
)
WORK = (
    Channel(
        subjects.WORK_SUBMIT,
        "message",
        "anyone",
        "work-marshaling",
        work.SubmitRequest,
        "A work item, durable once published; a request gets JetStream's receipt: its `seq` names the item "
        "`w-<seq>` where it brings no id",
    ),
    Channel(
        subjects.WORK_REQUEST,
        "message",
        "anyone",
        "work-marshaling",
        work.SubmitRequest,
        "The same, older spelling",
    ),
    Channel(
        subjects.WORK_ASSIGNED,
        "message",
        "work-marshaling",
        "nodes",
        work.Assignment,
        "The whole item for one node; a node takes only its own and drops a lower epoch",
    ),
    Channel(
        subjects.WORK_COMPLETED,
        "message",
        "nodes",
        "work-marshaling",
        work.Completed,
        "A result; without `node_id` it counts for the current holder, unless that one announced `fenced`",
    ),
    Channel(
        subjects.WORK_FAILED,
        "message",
        "nodes",
        "work-marshaling",
        work.Failed,
        "A failure; tried again elsewhere unless `retryable` is false",
    ),
    Channel(
        subjects.WORK_PROGRESS,
        "message",
        "nodes",
        "work-marshaling",
        work.Progress,
        "Renews the holder's lease",
    ),
    Channel(
        subjects.WORK_CANCELLED,
        "message",
        "work-marshaling",
        "nodes",
        work.Cancelled,
        "An item was cancelled; its worker stops",
    ),
    Channel(
        subjects.WORK_RETRIED,
        "event",
        "work-marshaling",
        "watchers",
        work.Retried,
        "An attempt ended; there is another one",
    ),
    Channel(
        subjects.WORK_DECIDED,
        "message",
        "work-marshaling",
        "work-marshaling",
        None,
        "The leader's decisions, acknowledged before they are told",
        internal=True,
    ),
    Channel(
        subjects.WORK_CANCEL,
        "request",
        "anyone",
        "work-marshaling",
        work.WorkRef,
        "Cancel an item",
        work.CancelAnswer,
    ),
    Channel(
        subjects.WORK_STATUS,
        "request",
        "anyone",
        "work-marshaling",
        work.WorkRef,
        "One item; without `work_id` the statistics",
        work.WorkItem,
    ),
)
FAMILY = (
    Channel(
        "compute.node.{node}.announce", "message", "that node", "node-registry", node.NodeDocument, "As above"
    ),
    Channel(
        "compute.node.{node}.heartbeat", "message", "that node", "node-registry", node.Heartbeat, "As above"
    ),
    Channel(
        "compute.node.{node}.completed", "message", "that node", "work-marshaling", work.Completed, "As above"
    ),
    Channel("compute.node.{node}.failed", "message", "that node", "work-marshaling", work.Failed, "As above"),
    Channel(
        "compute.node.{node}.progress", "message", "that node", "work-marshaling", work.Progress, "As above"
    ),
    Channel(
        "compute.node.{node}.assigned", "message", "work-marshaling", "that node", work.Assignment, "As above"
    ),
    Channel(
        "compute.node.{node}.cancelled", "message", "work-marshaling", "that node", work.Cancelled, "As above"
    ),
    Channel(
        "compute.node.{node}.reannounce", "message", "node-registry", "that node", node.Reannounce, "As above"
    ),
    Channel(
        "compute.node.{node}.hello",
        "message",
        "that node",
        "compute nats add-node",
        None,
        "A new login tried out: what the node says arrives under its name",
        internal=True,
    ),
)
LEDGER = (
    _ledger("reserve", gpu.ReserveRequest, "Reserve memory of one host, all GPUs or none", gpu.Reservation),
    _ledger("renew", gpu.ReservationRef, "Extend a reservation", gpu.Reservation),
    _ledger("bind", gpu.ReservationRef, "Bind it to a pid or container", gpu.Reservation),
    _ledger("release", gpu.ReservationRef, "Give it back", gpu.Reservation),
    _ledger("can-fit", gpu.CanFitRequest, "Where this would fit", gpu.CanFitAnswer),
    _ledger("states", None, "What every GPU and the RAM hold", gpu.GpuStates),
    _ledger("memory", None, "The forecast of RAM and each GPU", gpu.MemoryAnswer),
    _ledger("cordon", gpu.CordonRequest, "An operator takes a card out", gpu.CordonAnswer),
    _ledger("uncordon", gpu.CordonRequest, "And puts it back", gpu.CordonAnswer),
    _ledger("yield", gpu.YieldRequest, "The owner wants cards or RAM back", gpu.Yields),
    _ledger("end-yield", gpu.YieldTarget, "They go back to the cluster", gpu.Yields),
    _ledger("yields", None, "What is yielded now", gpu.Yields),
    Channel(
        "compute.gpu.level.v1.{node}",
        "event",
        "gpu-orchestrator",
        "that host's resource-detector",
        NodeMemoryLevel,
        "The host's memory level, put into its heartbeats",
    ),
    Channel(
        subjects.GPU_STATE,
        "event",
        "gpu-orchestrator",
        "watchers",
        gpu.ReservationEvent,
        "A reservation or a card's health changed",
    ),
    Channel(
        subjects.GPU_MEMORY_WARNING,
        "event",
        "gpu-orchestrator",
        "watchers",
        gpu.MemoryWarning,
        "The memory level changed; at most once a minute and level",
    ),
)
HOSTS = (
    Channel(
        "compute.host.checkup.v1.{node}",
        "request",
        "anyone",
        "that host's resource-detector",
        None,
        "What is wrong with that host, each with one fix; looked at now",
        checkup.Checkup,
    ),
    Channel(
        "compute.host.log.v1.{node}",
        "request",
        "anyone",
        "that host's resource-detector",
        checkup.LogAsk,
        "The end of a program's log there, or what was added since `offset`; 256 KiB at most",
        checkup.ProgramLog,
    ),
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
GROUPS: tuple[tuple[str, str, tuple[Channel, ...]], ...] = (
    ("Nodes", "", NODES),
    ("Work", "Captured by the JetStream stream `COMPUTE_WORK`, but for the two requests.", WORK),
    (
        "A node with a NATS account of its own",
        "The same messages; the account maps them. An assignment goes to one of the two, never to both.",
        FAMILY,
    ),
    ("Memory", "`{node}` addresses one host.", LEDGER),
    ("Hosts", "`{node}` addresses one host.", HOSTS),
    ("Models", "", MODELS),
    ("Benchmarks", "", BENCHMARKS),
)
