"""The NATS server of this COMPUTE_HOME: one account for each node of another host."""

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from compute_cli import node_accounts, views
from compute_cli.commands import nats_tools
from compute_cli.console import AsJson, fail, say, show
from compute_cli.nats_accounts import NodeAccount, live
from compute_cli.node_login import check_login
from compute_cli.suite import home_of
from compute_common.private_file import write_private
from compute_common.times import rfc3339

NodeName = Annotated[str, typer.Argument(metavar="NAME", help="The node's id.")]
Folder = Annotated[
    Path | None,
    typer.Option("--dir", help="Where the accounts are kept, for a server of your own; else COMPUTE_HOME."),
]


def add_node(
    name: NodeName,
    out: Annotated[Path | None, typer.Option("--out", help="The credentials file to write.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Give a node an account of its own; a node that has one gets a new password."""
    home = _home(folder)
    try:
        node = node_accounts.add(home, name)
        path = write_credentials(node, out or home / "nodes" / f"{name}.creds")
    except (ValueError, OSError) as error:
        raise fail(str(error)) from error
    answer = {"node_id": name, "credentials": str(path), "account": node.account, "active": apply(home, node)}
    show(answer, as_json, _added)


def revoke_node(name: NodeName, folder: Folder = None, as_json: AsJson = False) -> None:
    """End a node's account: its connections are closed at once."""
    home = _home(folder)
    try:
        node_accounts.revoke(home, name)
    except node_accounts.UnknownNodeError as error:
        raise fail(str(error)) from error
    (home / "nodes" / f"{name}.creds").unlink(missing_ok=True)
    answer = {"node_id": name, "revoked": True, "active": node_accounts.reload(home)}
    show(answer, as_json, lambda found: f"{name} is revoked{_pending(found['active'])}")


def list_nodes(folder: Folder = None, as_json: AsJson = False) -> None:
    """The node accounts and open invitations."""
    rows = [_row(node) for node in live(node_accounts.read(_home(folder)), time.time())]
    show({"accounts": rows, "count": len(rows)}, as_json, _table)


def write_credentials(node: NodeAccount, path: Path) -> Path:
    """The node's login as a file that NATS_CREDS may name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_private(path, f"{node.node_id}:{node.password}\n")


def apply(home: Path, node: NodeAccount) -> bool:
    """Have the running server take the account up, and see that it did; False where none runs from `home`."""
    if not node_accounts.reload(home):
        return False
    if not asyncio.run(check_login(home, node)):
        raise fail(f"the NATS server did not take the account up; its log says why: {home / 'logs/nats.log'}")
    return True


def _home(folder: Path | None) -> Path:
    return home_of(os.environ) if folder is None else folder.resolve()


def _row(node: NodeAccount) -> dict[str, Any]:
    expires = node.expires_at and rfc3339(datetime.fromtimestamp(node.expires_at, UTC))
    added = rfc3339(datetime.fromtimestamp(node.added_at, UTC))
    return {"node_id": node.node_id, "account": node.account, "added_at": added, "invited_until": expires}


def _table(answer: dict[str, Any]) -> object:
    columns = ("node_id", "account", "added_at", "invited_until")
    rows = [tuple(row[column] for column in columns) for row in answer["accounts"]]
    return views.table("", ("node", "account", "added", "invitation open until"), rows)


def _added(answer: dict[str, Any]) -> str:
    say(f"on the node: NATS_CREDS=<this file> NODE_ID={answer['node_id']} NATS_ACCOUNT=node")
    return f"{answer['credentials']}{_pending(answer['active'])}"


def _pending(active: bool) -> str:
    return "" if active else " (no server runs from here: it applies at its start, or after `kill -HUP`)"


commands = typer.Typer(no_args_is_help=True, help="The NATS server and the accounts of nodes.")
commands.command("add-node")(add_node)
commands.command("revoke-node")(revoke_node)
commands.command("list")(list_nodes)
commands.command()(nats_tools.info)
commands.command()(nats_tools.sub)
commands.command()(nats_tools.pub)
