"""Every NATS subject: who speaks, who listens, and the record on it.

docs/nats-subjects.md and docs/asyncapi.yaml are made from this table; a test holds it against the code."""

from scripts.wire.channel import Channel
from scripts.wire.hosts import HOSTS, LEDGER
from scripts.wire.models import BENCHMARKS, MODELS
from scripts.wire.nodes import FAMILY, NODES
from scripts.wire.work import WORK

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
