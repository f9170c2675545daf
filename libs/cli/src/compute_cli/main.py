"""The `compute` command."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from compute_cli import views
from compute_cli.client import Refused, Services
from compute_cli.suite import HOST_SERVICES, SERVICE_NAMES, SERVICES, suite_from, uvicorn_argv

app = typer.Typer(
    name="compute",
    help="A private LLM cluster out of the machines you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
stderr = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON for programs.")]


def say(text: str, style: str = "") -> None:
    """A line of progress or refusal on standard error."""
    stderr.print(Text("compute:", style="dim"), Text(text, style=style), soft_wrap=True)


def show(answer: Any, as_json: bool, view: Callable[[Any], object]) -> None:
    """Print `answer` as JSON, or as `view` of it."""
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        console.print(view(answer), markup=False)


# --- the suite on this host


@app.command()
def up(
    no_node: Annotated[bool, typer.Option("--no-node", help="Leave the node program out.")] = False,
    host_only: Annotated[
        bool, typer.Option("--host-only", help="Only what every host runs, for a cluster at NATS_URL.")
    ] = False,
) -> None:
    """Bring up the suite in the foreground; Ctrl-C or SIGTERM ends it."""
    if host_only and not os.environ.get("NATS_URL"):
        raise _fail("--host-only joins a cluster: set NATS_URL to its server")
    services = HOST_SERVICES if host_only else SERVICE_NAMES
    _supervise(services, with_node=not no_node)


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="End after the demonstration.")] = False,
) -> None:
    """Bring up the suite, deploy a small model, ask it a question through the queue, measure it."""
    _supervise(SERVICE_NAMES, demonstrate=True, once=once)


def _supervise(
    services: Collection[str], *, with_node: bool = True, demonstrate: bool = False, once: bool = False
) -> None:
    from compute_cli.demo import Demo  # noqa: PLC0415 - the supervisor's parts are not needed by other commands
    from compute_cli.supervisor import SuiteError, Supervisor, run_until_signal  # noqa: PLC0415

    try:
        suite = suite_from(os.environ)
        supervisor = Supervisor(suite, os.environ, say=say, with_node=with_node, services=services)
    except (ValueError, SuiteError) as error:
        raise _fail(str(error)) from error
    failed = False

    async def then() -> bool:
        nonlocal failed
        print("ready", flush=True)
        if demonstrate:
            try:
                with Services(dict(os.environ)) as client:
                    await Demo(client, console, supervisor.node_id).run()
            except Refused as error:
                failed = True
                say(f"the demonstration stopped: {error}", "red")
        if once:
            return False
        console.print(
            views.table(
                "",
                ("service", "address"),
                ((name, url) for name, url in suite.urls.items() if name in services),
            )
        )
        say(f"logs in {suite.logs}; Ctrl-C ends the suite")
        return True

    say(f"starting the suite (state in {suite.home})")
    code = asyncio.run(run_until_signal(supervisor, then, say))
    raise typer.Exit(code or int(failed and once))


@app.command()
def down() -> None:
    """End the suite that runs from COMPUTE_HOME."""
    from compute_cli.down import end_suite  # noqa: PLC0415

    try:
        ended = end_suite(suite_from(os.environ))
    except (ValueError, TimeoutError) as error:
        raise _fail(str(error)) from error
    say("ended" if ended else "no suite runs from this COMPUTE_HOME")


@app.command()
def node() -> None:
    """Join this machine to the cluster at NATS_URL as a worker, until a signal ends it."""
    os.environ.setdefault("COMPUTE_NODE_ANNOUNCE", "1")
    os.execv(sys.executable, [sys.executable, "-m", "compute_node"])  # noqa: S606


@app.command()
def serve(
    service: Annotated[str, typer.Argument(envvar="SERVICE", help="e.g. node-registry, or compute-node.")],
    host: Annotated[str, typer.Option(envvar="COMPUTE_LISTEN", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PORT", help="0: the service's own port.")] = 0,
) -> None:
    """Run one program of the suite in the foreground (what a container runs)."""
    if service == "compute-node":
        os.execv(sys.executable, [sys.executable, "-m", "compute_node"])  # noqa: S606
    spec = next((spec for spec in SERVICES if spec.name == service), None)
    if spec is None:
        names = ", ".join(spec.name for spec in SERVICES)
        raise _fail(f"no service is called {service!r}; there are {names}")
    os.execv(sys.executable, uvicorn_argv(spec.package, host, port or spec.port))  # noqa: S606


# --- questions to a running suite


@app.command()
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


@app.command()
def nodes(as_json: AsJson = False) -> None:
    """Every node the registry knows."""
    with Services() as services:
        answer = services.get("node-registry", "/api/v1/nodes", limit=1000)
    show(answer, as_json, lambda found: views.nodes_table(found["nodes"]))


@app.command()
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


@app.command()
def instances(as_json: AsJson = False) -> None:
    """Deployed models."""
    with Services() as services:
        answer = services.get("vllm-orchestrator", "/api/v1/vllm/instances", limit=1000)
    show(answer, as_json, lambda found: views.instances_table(found["instances"]))


@app.command()
def stop(name: Annotated[str, typer.Argument(help="Instance name.")], as_json: AsJson = False) -> None:
    """Stop a deployed model and give back what it holds."""
    with Services() as services:
        answer = services.delete("vllm-orchestrator", f"/api/v1/vllm/instances/{name}")
    show(answer, as_json, lambda found: f"{found['instance_name']}: {found['status']}")


@app.command()
def submit(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; or give --payload.")] = None,
    model: Annotated[str | None, typer.Option("--model")] = None,
    work_type: Annotated[str, typer.Option("--type")] = "inference",
    payload: Annotated[str | None, typer.Option(help="The payload as JSON.")] = None,
    priority: Annotated[int, typer.Option(min=0, max=9)] = 5,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a work item into the queue."""
    try:
        content = json.loads(payload) if payload else {"prompt": prompt} if prompt else {}
    except ValueError as error:
        raise _fail("--payload is not JSON") from error
    body = {"work_type": work_type, "model_name": model, "priority": priority, "payload": content}
    with Services() as services:
        answer = services.post("work-marshaling", "/api/v1/work/submit", body)
        if wait:
            answer = _await_final(services, answer["work_id"])
    show(answer, as_json, _item_view)


@app.command()
def work(
    work_id: Annotated[str | None, typer.Argument(help="One item; all without it.")] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="pending, assigned, … or active.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the item.")] = False,
    as_json: AsJson = False,
) -> None:
    """The queue, or one item of it."""
    with Services() as services:
        if work_id and cancel:
            answer = services.delete("work-marshaling", f"/api/v1/work/{work_id}")
            show(answer, as_json, lambda found: f"{found['work_id']}: {found['status']}")
        elif work_id:
            show(services.get("work-marshaling", f"/api/v1/work/{work_id}"), as_json, _item_view)
        else:
            answer = services.get("work-marshaling", "/api/v1/work", status=status, limit=100)
            show(answer, as_json, lambda found: views.work_table(found["items"]))


@app.command()
def bench(
    model: Annotated[
        str | None, typer.Argument(help="A deployed model; without it past runs are listed.")
    ] = None,
    batch: Annotated[list[int], typer.Option("--batch", help="Concurrency; may repeat.")] = [1, 4],  # noqa: B006
    context: Annotated[list[int], typer.Option("--context", help="Prompt tokens; may repeat.")] = [512],  # noqa: B006
    output_tokens: Annotated[int, typer.Option(help="Tokens per answer.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Measure a deployed model."""
    with Services(timeout_seconds=3600) as services:
        if model is None:
            answer = services.get("benchmark-runner", "/api/v1/benchmarks")
            show(answer, as_json, lambda found: views.benchmarks_table(found["benchmarks"]))
            return
        body = {
            "model_name": model,
            "gpu_count": 0,
            "batch_sizes": batch,
            "context_lengths": context,
            "output_tokens": output_tokens,
            "background": False,
        }
        with stderr.status("measuring"):
            answer = services.post("benchmark-runner", "/api/v1/benchmark/run", body)
    show(answer, as_json, lambda found: views.benchmarks_table([found]))


def _await_final(services: Services, work_id: str) -> dict[str, Any]:
    while True:
        item = services.get("work-marshaling", f"/api/v1/work/{work_id}", wait=30)
        if item["status"] in ("completed", "failed", "cancelled"):
            return item
        say(f"{work_id} is {item['status']}: {item.get('waiting_for') or 'running'}")


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


def _fail(message: str) -> typer.Exit:
    say(message, "red")
    return typer.Exit(1)


def main() -> None:
    """The console script: a refusal is one line on standard error and exit code 1."""
    try:
        app()
    except Refused as error:
        say(str(error), "red")
        sys.exit(1)


if __name__ == "__main__":
    main()
