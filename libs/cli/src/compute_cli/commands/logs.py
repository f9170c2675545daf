"""What an engine says, from whichever host it runs on."""

import json
from typing import Annotated
from urllib.parse import quote

import typer

from compute_cli.client import Refused, Services
from compute_cli.console import AsJson, console, show

SERVICE = "vllm-orchestrator"


def logs(
    instance: Annotated[str, typer.Argument(help="Instance name.")],
    node_id: Annotated[
        str | None, typer.Option("--node", help="That host's part, of an instance over several.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And what it goes on to say.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=2000, help="Of its end.")] = 200,
    as_json: AsJson = False,
) -> None:
    """The log of a deployed model's engine."""
    path = f"/api/v1/vllm/instances/{quote(instance, safe='')}/logs"
    with Services() as services:
        if not follow:
            tail = services.get(SERVICE, path, lines=lines, node_id=node_id)
            show(tail, as_json, lambda found: "\n".join(found["lines"]))
            return
        for kind, data in services.events(SERVICE, f"{path}/events", lines=lines, node_id=node_id):
            if kind == "problem":
                raise Refused(str(json.loads(data).get("detail", data)))
            if kind == "message":
                console.print(data if as_json else json.loads(data), markup=False, highlight=False)
