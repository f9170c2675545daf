"""The `compute` command."""

import sys
from collections.abc import Callable

import typer

from compute_cli.client import Refused
from compute_cli.commands import (
    backup,
    bench,
    doctor,
    host,
    join,
    keys,
    logs,
    models,
    nats,
    owner,
    pull,
    questions,
    service,
)
from compute_cli.console import say

app = typer.Typer(
    name="compute",
    help="A private LLM cluster out of the machines you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_THIS_HOST: tuple[Callable[..., None], ...] = (
    host.run,
    host.up,
    host.down,
    host.node,
    host.serve,
    doctor.doctor,
    backup.backup,
    backup.restore,
)
_A_RUNNING_SUITE: tuple[Callable[..., None], ...] = (
    questions.status,
    questions.nodes,
    questions.deploy,
    models.plan,
    questions.instances,
    logs.logs,
    questions.stop,
    questions.submit,
    questions.work,
    bench.bench,
    bench.compare,
    owner.yield_,
)
_SEVERAL_MACHINES: tuple[Callable[..., None], ...] = (join.invite, join.join, join.leave)
for _panel, _commands in (
    ("This host", _THIS_HOST),
    ("A running suite", _A_RUNNING_SUITE),
    ("Several machines", _SEVERAL_MACHINES),
):
    for _command in _commands:
        app.command(_command.__name__.rstrip("_"), rich_help_panel=_panel)(_command)
_models = typer.Typer(invoke_without_command=True)
_models.callback()(models.models)
_models.command()(pull.pull)
app.add_typer(_models, name="models", rich_help_panel="A running suite")
app.add_typer(service.commands, name="service", rich_help_panel="This host")
app.add_typer(nats.commands, name="nats", rich_help_panel="Several machines")
app.add_typer(keys.keys, name="keys", rich_help_panel="This host")


def main() -> None:
    """The console script: a refusal, ours or the system's, is one line on standard error and exit code 1."""
    try:
        app()
    except Refused as error:
        say(str(error), "red")
        sys.exit(1)
    except OSError as error:  # a full disk, a COMPUTE_HOME that cannot be: the system's words, not a stack
        say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), "red")
        sys.exit(1)


if __name__ == "__main__":
    main()
