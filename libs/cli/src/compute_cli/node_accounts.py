"""The node accounts of this COMPUTE_HOME's NATS server: kept in one file, written into its configuration."""

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil

from compute_cli.nats_accounts import NodeAccount, accounts_text, live
from compute_common.ids import check_identifier
from compute_common.private_file import write_private

ACCOUNTS = "nats-accounts.conf"
_KEPT = "nats-nodes.json"
_KEPT_OUT = "nats-kept-out.json"  # beside the accounts: earlier versions read those
BETWEEN_RELOADS_SECONDS = 0.1
_SHARED = frozenset({"sys", "compute"})  # the users of the other accounts


class UnknownNodeError(Exception):
    """No account is called so."""


def read(home: Path) -> list[NodeAccount]:
    """Every account and open invitation, those whose time ran out as well."""
    path = home / _KEPT
    if not path.exists():
        return []
    return [NodeAccount(**fields) for fields in json.loads(path.read_text())["nodes"]]


def add(home: Path, node_id: str, expires_at: float | None = None) -> NodeAccount:
    """A new account, with a new password where the node has one already. ValueError for no identifier."""
    check_identifier(node_id)
    if node_id in _SHARED:
        raise ValueError(f"'{node_id}' is a user of the server itself; take another name")
    now = time.time()
    node = NodeAccount(node_id, secrets.token_urlsafe(32), now, expires_at)
    with _locked(home):
        others = [each for each in live(read(home), now) if each.node_id != node_id]
        if node_id in (out := kept_out(home)):  # an operator's word
            del out[node_id]
            write_private(home / _KEPT_OUT, json.dumps(out))
        _keep(home, [*others, node])
    return node


def revoke(home: Path, node_id: str) -> None:
    """End an account or invitation; UnknownNodeError where there is none."""
    with _locked(home):
        nodes = read(home)
        left = [each for each in nodes if each.node_id != node_id]
        if len(left) == len(nodes):
            raise UnknownNodeError(f"no node account is called '{node_id}'; `compute nats list` shows them")
        _keep(home, left)


def settle(home: Path, came: frozenset[str]) -> bool:
    """Invitations that were taken stay, those whose time ran out go; whether any went."""
    with _locked(home):
        nodes = read(home)
        taken = [
            NodeAccount(each.node_id, each.password, each.added_at) if each.node_id in came else each
            for each in nodes
        ]
        left = live(taken, time.time())
        if left != nodes:
            _keep(home, left)
        return len(left) < len(nodes)


def kept_out(home: Path) -> dict[str, float]:
    """Nodes that may not connect for a while, and until when, in seconds since the epoch."""
    try:
        found = json.loads((home / _KEPT_OUT).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(node_id): float(until) for node_id, until in found.items()}


def keep_out(home: Path, until: Mapping[str, float]) -> None:
    """Take accounts out of the configuration, at once; they stay known."""
    with _locked(home):
        write_private(home / _KEPT_OUT, json.dumps(kept_out(home) | dict(until)))
        write_accounts(home)
    reload(home)


def let_in(home: Path, now: float) -> list[str]:
    """Put those back whose time is over, and say who they are."""
    if not any(until <= now for until in kept_out(home).values()):
        return []
    with _locked(home):
        found = kept_out(home)
        over = [node_id for node_id, until in found.items() if until <= now]
        left = {node_id: until for node_id, until in found.items() if node_id not in over}
        write_private(home / _KEPT_OUT, json.dumps(left))
        write_accounts(home)
        known = {node.node_id for node in read(home)}
    reload(home)
    return [node_id for node_id in over if node_id in known]


def write_accounts(home: Path) -> Path:
    """Write the `accounts` block of the configuration, readable by its owner only, and return its path."""
    home.mkdir(parents=True, exist_ok=True)
    text = accounts_text(
        kept_secret(home / "nats-sys.secret"),
        kept_secret(home / "nats-compute.secret"),
        _let_in(home, time.time()),
    )
    return write_private(home / ACCOUNTS, text)


def reload(home: Path) -> bool:
    """Have the running server read its configuration again; False where none runs from this home.

    Twice: nats-server 2.15 takes a new account up at the first time, and its service imports at the second.
    """
    try:
        process = psutil.Process(int((home / "nats.pid").read_text()))
        if "nats-server" not in process.name():
            return False
        os.kill(process.pid, signal.SIGHUP)
        time.sleep(BETWEEN_RELOADS_SECONDS)  # two at once may be delivered as one
        os.kill(process.pid, signal.SIGHUP)
    except (OSError, ValueError, psutil.Error):
        return False
    return True


def kept_secret(path: Path) -> str:
    """The secret in `path`, made when there is none yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text().strip()


def _let_in(home: Path, now: float) -> list[NodeAccount]:
    """The accounts of the configuration."""
    out = kept_out(home)
    return [node for node in live(read(home), now) if out.get(node.node_id, 0.0) <= now]


def _keep(home: Path, nodes: list[NodeAccount]) -> None:
    write_private(home / _KEPT, json.dumps({"version": 1, "nodes": [asdict(node) for node in nodes]}))
    write_accounts(home)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "nats-nodes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
