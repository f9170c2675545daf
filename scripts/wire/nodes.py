"""Messages of nodes and about them."""

from compute_common import subjects
from compute_common.schemas import node, work
from scripts.wire.channel import Channel, Record


def _own(word: str, speaker: str, listener: str, record: Record) -> Channel:
    return Channel(f"compute.node.{{node}}.{word}", "message", speaker, listener, record, "As above")


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
FAMILY = (
    _own("announce", "that node", "node-registry", node.NodeDocument),
    _own("heartbeat", "that node", "node-registry", node.Heartbeat),
    _own("completed", "that node", "work-marshaling", work.Completed),
    _own("failed", "that node", "work-marshaling", work.Failed),
    _own("progress", "that node", "work-marshaling", work.Progress),
    _own("assigned", "work-marshaling", "that node", work.Assignment),
    _own("cancelled", "work-marshaling", "that node", work.Cancelled),
    _own("reannounce", "node-registry", "that node", node.Reannounce),
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
