"""Bringing a model's files onto a node, and watching them come."""

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from compute_cli.client import Services
from compute_cli.console import AsJson, fail, show, stderr

LOOK_SECONDS = 0.5
PULL = "/api/v1/vllm/models/pull"
SERVICE = "vllm-orchestrator"


def pull(
    model: Annotated[str, typer.Argument(help="Its id on the Hub, e.g. Qwen/Qwen2.5-7B-Instruct")],
    node_id: Annotated[str | None, typer.Option("--node", help="Onto this node.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit of the Hub.")] = None,
    quantization: Annotated[str | None, typer.Option(help="Of a GGUF model, e.g. Q4_K_M.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is there.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the pull that is under way.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a model's files onto a node: from another node that has them, else from the Hub.

    Ctrl-C only stops watching; --cancel ends the pull, and what has come stays for the next one.
    """
    given = {"model_name": model, "node_id": node_id, "revision": revision, "quantization": quantization}
    body = {key: value for key, value in given.items() if value is not None}
    with Services(timeout_seconds=70) as services:
        if cancel:
            show(_cancelled(services, model, node_id), as_json, _view)
            return
        found = services.post(SERVICE, PULL, body)
        if not no_wait:
            try:
                found = _followed(services, found)
            except KeyboardInterrupt:
                where = f" --node {found['node_id']}" if node_id else ""
                stderr.print(f"It goes on; `compute models pull {model}{where} --cancel` ends it.")
                raise
    show(found, as_json, _view)
    if found["phase"] == "failed":
        raise fail(str(found["error"]))


def _followed(services: Services, found: dict[str, Any]) -> dict[str, Any]:
    """Its last word; meanwhile a bar on standard error."""
    path = f"{PULL}/{quote(found['pull_id'], safe='')}"
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=stderr, transient=True) as progress:
        bar = progress.add_task(found["model_name"], total=found["bytes_total"])
        while found["phase"] == "downloading":
            progress.update(bar, completed=found["bytes_done"], total=found["bytes_total"])
            time.sleep(LOOK_SECONDS)
            found = services.get(SERVICE, path, node_id=found["node_id"])
    return found


def _cancelled(services: Services, model: str, node_id: str | None) -> dict[str, Any]:
    pulls = services.get(SERVICE, PULL, node_id=node_id)["pulls"]
    under_way = [pull for pull in pulls if pull["model_name"] == model and pull["phase"] == "downloading"]
    if not under_way:
        raise fail(f"no pull of {model} is under way{f' on {node_id}' if node_id else ''}")
    path = f"{PULL}/{quote(under_way[0]['pull_id'], safe='')}"
    return services.delete(SERVICE, f"{path}?node_id={quote(under_way[0]['node_id'], safe='')}")


def _view(found: dict[str, Any]) -> str:
    where = found["path"] or f"{found['bytes_done'] >> 20} of {found['bytes_total'] >> 20} MiB"
    return f"{found['model_name']} on {found['node_id']}: {found['phase']} (from {found['source']}), {where}"
