"""The accounts of a NATS server as its configuration: SYS, COMPUTE, and one for each node. Pure.

A node's account sees nothing of COMPUTE but what is named here. Its own subjects are mapped onto the plain
ones, so that a program that knows only `compute.work.assigned.v1` runs unmodified in it: what it hears there
was addressed to it, and what it says arrives under its name whatever it says. No account but COMPUTE has
JetStream.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from compute_common import subjects
from compute_common.subjects import node_account, node_subject, token

MAX_CONNECTIONS = 16  # the four programs of a host, their next runs, and a few workers
MAX_SUBSCRIPTIONS = 256
MAX_PAYLOAD_BYTES = 1_048_576  # a result; the server's own limit
SAYS = {
    "announce": subjects.NODES_ANNOUNCE,
    "heartbeat": subjects.NODES_HEARTBEAT,
    "completed": subjects.WORK_COMPLETED,
    "failed": subjects.WORK_FAILED,
    "progress": subjects.WORK_PROGRESS,
    "instance": subjects.VLLM_INSTANCE,
    "instances": subjects.VLLM_INSTANCES,
    "files": subjects.VLLM_FILES,
    "hello": "compute.hello.v1",  # nobody listens but who just made the account
}
HEARS = {
    "assigned": subjects.WORK_ASSIGNED,
    "cancelled": subjects.WORK_CANCELLED,
    "reannounce": None,  # as it is called
}
IS_ASKED = ("compute.gpu.*.v1.{}", "compute.vllm.*.v1.{}", "compute.host.*.v1.{}")


@dataclass(frozen=True)
class NodeAccount:
    """A node's account. `expires_at`: of an invitation, in seconds since the epoch; None once it came."""

    node_id: str
    password: str
    added_at: float
    expires_at: float | None = None

    @property
    def account(self) -> str:
        return node_account(self.node_id)


def live(nodes: Iterable[NodeAccount], now: float) -> list[NodeAccount]:
    """Those that may log in: an invitation that nobody took is void after its time."""
    return [node for node in nodes if node.expires_at is None or node.expires_at > now]


def accounts_text(sys_password: str, compute_password: str, nodes: Iterable[NodeAccount]) -> str:
    """The `accounts` block; passwords are URL-safe, ids are identifiers: nothing needs escaping."""
    every = sorted(nodes, key=lambda node: node.node_id)
    exports = [line for node in every for line in _exports(node)]
    imports = [line for node in every for line in _imports(node)]
    return "\n".join(
        (
            "# Written by `compute`; edits are lost.",
            "accounts {",
            _SYS.format(password=sys_password),
            _COMPUTE.format(
                password=compute_password, exports="\n".join(exports), imports="\n".join(imports)
            ),
            *(_account(node) for node in every),
            "}",
            'system_account: "SYS"',
            "",
        )
    )


_SYS = """\
  SYS {{
    users: [{{user: "sys", password: "{password}"}}]
    exports: [{{service: "$SYS.REQ.SERVER.*.VARZ"}}, {{service: "$SYS.REQ.SERVER.PING.*"}}]
  }}"""
_COMPUTE = """\
  COMPUTE {{
    jetstream: enabled
    users: [{{user: "compute", password: "{password}"}}]
    exports: [
      {{stream: "compute.nodes.reannounce.v1"}}
{exports}
    ]
    imports: [
      {{service: {{account: "SYS", subject: "$SYS.REQ.SERVER.*.VARZ"}}}}
      {{service: {{account: "SYS", subject: "$SYS.REQ.SERVER.PING.*"}}}}
{imports}
    ]
  }}"""


def _exports(node: NodeAccount) -> Iterable[str]:
    """What COMPUTE grants this one account."""
    for kind, verbs in (("service", SAYS), ("stream", HEARS)):
        for verb in verbs:
            yield f'      {{{kind}: "{node_subject(node.node_id, verb)}", accounts: ["{node.account}"]}}'


def _imports(node: NodeAccount) -> Iterable[str]:
    """What COMPUTE may ask of this one account."""
    for pattern in IS_ASKED:
        subject = pattern.format(token(node.node_id))
        yield f'      {{service: {{account: "{node.account}", subject: "{subject}"}}}}'


def _account(node: NodeAccount) -> str:
    own = [pattern.format(token(node.node_id)) for pattern in IS_ASKED]
    asked = "\n".join(f'      {{service: "{subject}", accounts: ["COMPUTE"]}}' for subject in own)
    says = "\n".join(_import("service", node, verb, subject) for verb, subject in SAYS.items())
    hears = "\n".join(_import("stream", node, verb, subject) for verb, subject in HEARS.items())
    return f"""\
  "{node.account}" {{
    users: [{{user: "{node.node_id}", password: "{node.password}"}}]
    limits {{
      max_connections: {MAX_CONNECTIONS}
      max_subscriptions: {MAX_SUBSCRIPTIONS}
      max_payload: {MAX_PAYLOAD_BYTES}
      max_leafnodes: 1
    }}
    exports: [
{asked}
    ]
    imports: [
{says}
{hears}
      {{stream: {{account: "COMPUTE", subject: "compute.nodes.reannounce.v1"}}}}
    ]
  }}"""


def _import(kind: str, node: NodeAccount, verb: str, local: str | None) -> str:
    remote = node_subject(node.node_id, verb)
    mapped = f', to: "{local}"' if local else ""
    return f'      {{{kind}: {{account: "COMPUTE", subject: "{remote}"}}{mapped}}}'
