"""Questions and wishes to a running suite."""

import json
from typing import Annotated, Any

import typer

from compute_cli import views
from compute_cli.client import Services, path_segment
from compute_cli.console import AsJson, fail, say, show
from compute_cli.suite import SERVICES

MAX_TOKENS = 512


def status(as_json: AsJson = False) -> None:
    """Health of the six services."""
    with Services() as services:
        found = {spec.name: services.health(spec.name) for spec in SERVICES}
        rows = [
            (name, (health or {}).get("status", "no answer"), services.urls[name], _failing(health))
            for name, health in found.items()
        ]
    show(found, as_json, lambda _: views.table("", ("service", "status", "address", "what is wrong"), rows))
    if any(health is None or health["status"] == "unhealthy" for health in found.values()):
        raise typer.Exit(1)


def nodes(as_json: AsJson = False) -> None:
    """Every node the registry knows."""
    with Services() as services:
        answer = services.get("node-registry", "/api/v1/nodes", limit=1000)
    show(answer, as_json, lambda found: views.nodes_table(found["nodes"]))


def deploy(
    model: Annotated[str, typer.Argument(help="e.g. meta-llama/Llama-3-70B")],
    name: Annotated[str | None, typer.Option("--name", help="Instance name.")] = None,
    node_id: Annotated[str | None, typer.Option("--node", help="Only on this node.")] = None,
    max_model_len: Annotated[int | None, typer.Option(help="Context length, tokens.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a model where it fits."""
    given = {
        "model_name": model,
        "instance_name": name,
        "node_id": node_id,
        "max_model_len": max_model_len,
        "dry_run": dry_run or None,
    }
    body = {key: value for key, value in given.items() if value is not None}
    with Services() as services:
        answer = services.post("vllm-orchestrator", "/api/v1/vllm/deploy", body)
    show(answer, as_json, lambda plan: f"{plan['instance_name']}: {plan['status']}\n{plan['explanation']}")


def instances(as_json: AsJson = False) -> None:
    """Deployed models."""
    with Services() as services:
        answer = services.get("vllm-orchestrator", "/api/v1/vllm/instances", limit=1000)
    show(answer, as_json, lambda found: views.instances_table(found["instances"]))


def stop(name: Annotated[str, typer.Argument(help="Instance name.")], as_json: AsJson = False) -> None:
    """Stop a deployed model and give back what it holds."""
    with Services() as services:
        answer = services.delete("vllm-orchestrator", f"/api/v1/vllm/instances/{path_segment(name)}")
    show(answer, as_json, lambda found: f"{found['instance_name']}: {found['status']}")


def submit(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; or give --payload.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="A deployed model; without it any that a node serves.")
    ] = None,
    work_type: Annotated[str, typer.Option("--type", help="What a worker must handle.")] = "inference",
    payload: Annotated[str | None, typer.Option(help="The payload as JSON.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of the answer to a prompt, at most.")] = MAX_TOKENS,
    complete: Annotated[
        bool, typer.Option("--complete", help="Let the model go on with the prompt, not answer it.")
    ] = False,
    priority: Annotated[int, typer.Option(min=0, max=9, help="0 is first.")] = 5,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a work item into the queue."""
    if bool(prompt) == bool(payload):
        raise fail("give a prompt or --payload, one of them")
    content = (
        _object(payload)
        if payload
        else prompt_payload(prompt or "", work_type, max_tokens, complete=complete)
    )
    body = {"work_type": work_type, "model_name": model, "priority": priority, "payload": content}
    with Services() as services:
        answer = services.post("work-marshaling", "/api/v1/work/submit", body)
        if wait:
            answer = _await_final(services, answer["work_id"])
        elif not as_json:
            say(f"`compute work {answer['work_id']}` shows how it goes, and the answer")
    show(answer, as_json, _item_view)


def work(
    work_id: Annotated[str | None, typer.Argument(help="One item; all without it.")] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="pending, assigned, … or active.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the item.")] = False,
    as_json: AsJson = False,
) -> None:
    """The queue, or one item of it."""
    if work_id is None and cancel:
        raise fail("--cancel wants the id of an item")
    if work_id is not None and status:
        raise fail("give the id of an item or --status, one of them")
    with Services() as services:
        if work_id is not None and cancel:
            answer = services.delete("work-marshaling", f"/api/v1/work/{path_segment(work_id)}")
            show(answer, as_json, lambda found: f"{found['work_id']}: {found['status']}")
        elif work_id is not None:
            show(
                services.get("work-marshaling", f"/api/v1/work/{path_segment(work_id)}"), as_json, _item_view
            )
        else:
            answer = services.get("work-marshaling", "/api/v1/work", status=status, limit=100)
            show(answer, as_json, lambda found: views.work_table(found["items"]))


def _await_final(services: Services, work_id: str) -> dict[str, Any]:
    while True:
        item = services.get("work-marshaling", f"/api/v1/work/{path_segment(work_id)}", wait=30)
        if item["status"] in ("completed", "failed", "cancelled"):
            return item
        say(f"{work_id} is {item['status']}: {item.get('waiting_for') or 'running'}")


def _object(payload: str) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise fail("--payload is not JSON") from error
    if not isinstance(found, dict):
        raise fail("--payload is not a JSON object")
    return found


def prompt_payload(prompt: str, work_type: str, max_tokens: int, *, complete: bool) -> dict[str, Any]:
    """A prompt as the payload that the work type wants: a question, a text to go on with or to embed."""
    if work_type == "embedding":
        return {"input": prompt}
    if work_type != "inference":
        return {"prompt": prompt}
    if complete:
        return {"prompt": prompt, "max_tokens": max_tokens}
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}


def _item_view(item: dict[str, Any]) -> str:
    lines = [f"{item['work_id']}: {item['status']}"]
    result = item.get("result")
    if isinstance(result, dict) and "text" in result:
        lines.append(str(result["text"]))
    elif result is not None:
        lines.append(json.dumps(result, indent=2))
    lines += [str(item[key]) for key in ("waiting_for", "error_message") if item.get(key)]
    return "\n".join(lines)


def _failing(health: dict[str, Any] | None) -> str | None:
    checks = (health or {}).get("checks", {})
    return (
        "; ".join(f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"]) or None
    )
