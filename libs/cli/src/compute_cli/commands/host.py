"""The programs of this host: bring them up, end them, run one."""

import asyncio
import json
import os
import sys
from collections.abc import Collection
from typing import Annotated

import typer
from rich.console import Console

from compute_cli import views
from compute_cli.client import Refused, Services
from compute_cli.console import AsJson, console, fail, say, show
from compute_cli.demo import Demo
from compute_cli.down import end_suite
from compute_cli.invitation import joined
from compute_cli.purge import remove, state_in
from compute_cli.suite import (
    HOST_SERVICES,
    SERVICE_NAMES,
    SERVICES,
    Suite,
    home_of,
    suite_from,
    uvicorn_argv,
)
from compute_cli.supervisor import SuiteError, Supervisor, run_until_signal


def up(
    no_node: Annotated[bool, typer.Option("--no-node", help="Leave the node program out.")] = False,
    host_only: Annotated[
        bool, typer.Option("--host-only", help="Only what every host runs, for a cluster at NATS_URL.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring up the suite in the foreground; Ctrl-C or SIGTERM ends it."""
    if host_only and not os.environ.get("NATS_URL"):
        os.environ.update(joined(home_of(os.environ)))
    if host_only and not os.environ.get("NATS_URL"):
        raise fail("--host-only joins a cluster: `compute join` one, or set NATS_URL to its server")
    services = HOST_SERVICES if host_only else SERVICE_NAMES
    suite, supervisor = _supervisor(services, with_node=not no_node)

    async def announce() -> bool:
        _say_ready(suite, services, as_json)
        return True

    raise typer.Exit(asyncio.run(run_until_signal(supervisor, announce, say)))


def run(
    once: Annotated[bool, typer.Option("--once", help="End after the demonstration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring up the suite, deploy a small model, ask it a question through the queue, measure it."""
    suite, supervisor = _supervisor(SERVICE_NAMES, with_node=True)
    failed = False

    async def demonstrate() -> bool:
        nonlocal failed
        if not as_json:
            print("ready", flush=True)
        try:
            with Services(dict(os.environ)) as client:
                demo = Demo(client, Console(stderr=True) if as_json else console, supervisor.node_id)
                await demo.run()
            if as_json:
                print(json.dumps(demo.facts), flush=True)
        except Refused as error:
            failed = True
            say(f"the demonstration stopped: {error}", "red")
        if not once and not as_json:
            _say_where(suite, SERVICE_NAMES)
        return not once

    code = asyncio.run(run_until_signal(supervisor, demonstrate, say))
    raise typer.Exit(code or int(failed and once))


def down(
    purge: Annotated[bool, typer.Option("--purge", help="And remove all state, models included.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the suite that runs from COMPUTE_HOME."""
    home = home_of(os.environ)
    kept = state_in(home) if purge else []
    if kept and not yes:
        say(f"this removes, for good, from {home}: {', '.join(path.name for path in kept)}")
        typer.confirm("remove it?", abort=True, err=True)
    try:
        ended = end_suite(suite_from(os.environ))
    except (ValueError, TimeoutError) as error:
        raise fail(str(error)) from error
    answer: dict[str, object] = {"ended": ended}
    if purge:
        left = remove(state_in(home), home)
        answer |= {"purged": [path.name for path in kept], "left": [str(path) for path in left]}
        if left:
            say(f"not of the suite, and left: {', '.join(str(path) for path in left)}")
    show(answer, as_json, lambda _: "ended" if ended else "no suite runs from this COMPUTE_HOME")


def node() -> None:
    """Join this machine to the cluster at NATS_URL as a worker, until a signal ends it."""
    if not os.environ.get("NATS_URL"):
        os.environ.update(joined(home_of(os.environ)))
    os.environ.setdefault("COMPUTE_NODE_ANNOUNCE", "1")
    os.execv(sys.executable, [sys.executable, "-m", "compute_node"])  # noqa: S606


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
        raise fail(f"no service is called {service!r}; there are {names}")
    os.execv(sys.executable, uvicorn_argv(spec.package, host, port or spec.port))  # noqa: S606


def _supervisor(services: Collection[str], *, with_node: bool) -> tuple[Suite, Supervisor]:
    try:
        suite = suite_from(os.environ)
        supervisor = Supervisor(suite, os.environ, say=say, with_node=with_node, services=services)
    except (ValueError, SuiteError) as error:
        raise fail(str(error)) from error
    say(f"starting the suite (state in {suite.home})")
    return suite, supervisor


def _say_ready(suite: Suite, services: Collection[str], as_json: bool) -> None:
    if as_json:
        urls = {name: url for name, url in suite.urls.items() if name in services}
        print(json.dumps({"status": "ready", "services": urls}), flush=True)
        return
    print("ready", flush=True)
    _say_where(suite, services)


def _say_where(suite: Suite, services: Collection[str]) -> None:
    rows = [(name, url) for name, url in suite.urls.items() if name in services]
    console.print(views.table("", ("service", "address"), rows))
    say(f"logs in {suite.logs}; Ctrl-C ends the suite")
