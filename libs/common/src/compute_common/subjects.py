"""Every NATS subject of the contract, and the one way an id becomes a subject token or a KV key."""

from compute_common.ids import check_identifier

NODES_ANNOUNCE = "compute.nodes.announce.v1"
NODES_HEARTBEAT = "compute.nodes.heartbeat.v1"
NODES_QUERY = "compute.nodes.query.v1"
NODES_DRAIN = "compute.nodes.drain.v1"
NODES_REMOVE = "compute.nodes.remove.v1"
NODES_REANNOUNCE = "compute.nodes.reannounce.v1"
NODES_EVENT = "compute.nodes.event.v1"

WORK_SUBMIT = "compute.work.submit.v1"
WORK_REQUEST = "compute.work.request.v1"  # alias of submit
WORK_ASSIGNED = "compute.work.assigned.v1"
WORK_COMPLETED = "compute.work.completed.v1"
WORK_FAILED = "compute.work.failed.v1"
WORK_PROGRESS = "compute.work.progress.v1"
WORK_CANCELLED = "compute.work.cancelled.v1"
WORK_RETRIED = "compute.work.retried.v1"
WORK_DECIDED = "compute.work.decided.v1"
WORK_CANCEL = "compute.work.cancel.v1"
WORK_STATUS = "compute.work.status.v1"

VLLM_REQUEST = "compute.vllm.request.v1"
VLLM_INSTANCE = "compute.vllm.instance.v1"
VLLM_FILES = "compute.vllm.files.v1"
VLLM_INSTANCES = "compute.vllm.instances.v1"  # records, for a host whose account has no JetStream

GPU_STATE = "compute.gpu.state.v1"
GPU_MEMORY_WARNING = "compute.gpu.memory.warning.v1"

BENCHMARK_REQUEST = "compute.benchmark.request.v1"
BENCHMARK_STATUS = "compute.benchmark.status.v1"
BENCHMARK_CANCEL = "compute.benchmark.cancel.v1"
BENCHMARK_PROGRESS = "compute.benchmark.progress.v1"
BENCHMARK_RESULT = "compute.benchmark.result.v1"

NODE_ACCOUNT = "node-"


def token(identifier: str) -> str:
    """An id as one subject token or KV key: `.` is written `=2E` (legal in both, in no identifier).

    Raises ValueError when `identifier` is not one.
    """
    return check_identifier(identifier).replace(".", "=2E")


def untoken(text: str) -> str:
    """The id that `token` made `text` from."""
    return text.replace("=2E", ".")


def node_subject(node_id: str, verb: str) -> str:
    """`compute.node.<id>.<verb>`: the family for nodes with a NATS account of their own."""
    return f"compute.node.{token(node_id)}.{verb}"


def node_account(node_id: str) -> str:
    """The name of a node's own NATS account."""
    return NODE_ACCOUNT + token(node_id)


def speaker(subject: str) -> str:
    """The node that owns a subject of the family; ValueError when it carries no node id."""
    return check_identifier(untoken(subject.split(".")[2]))


def gpu_subject(verb: str, node_id: str) -> str:
    """`compute.gpu.<verb>.v1.<node_id>`: a request to one host's ledger."""
    return f"compute.gpu.{verb}.v1.{token(node_id)}"


def vllm_subject(verb: str, node_id: str) -> str:
    """`compute.vllm.<verb>.v1.<node_id>`: a request to one host's orchestrator."""
    return f"compute.vllm.{verb}.v1.{token(node_id)}"


def host_subject(verb: str, node_id: str) -> str:
    """`compute.host.<verb>.v1.<node_id>`: a question about a host, to its resource detector."""
    return f"compute.host.{verb}.v1.{token(node_id)}"
