"""How commands speak: answers on standard output, progress and refusals on standard error."""

import json
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.text import Text

UNBOUNDED_COLUMNS = 10_000


def answers_console() -> Console:
    """Where answers go: as wide as they are where no window bounds them, so that a pipe gets whole names."""
    out = Console()
    return out if out.is_terminal or "COLUMNS" in os.environ else Console(width=UNBOUNDED_COLUMNS)


console = answers_console()
stderr = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON for programs.")]


def say(text: str, style: str = "") -> None:
    """A line of progress or refusal on standard error."""
    stderr.print(Text("compute:", style="dim"), Text(text, style=style), soft_wrap=True)


def show(answer: Any, as_json: bool, view: Callable[[Any], object]) -> None:
    """Print `answer` as JSON, or as `view` of it."""
    if as_json:
        print(json.dumps(answer, indent=2), flush=True)
    else:
        console.print(view(answer), markup=False, crop=False)


def as_written(text: str) -> Group:
    """Lines that a program wrote, none of them broken where the window ends."""
    return Group(Text(text, no_wrap=True, overflow="ignore"))  # a bare Text is joined with others, and wraps


def fail(message: str) -> typer.Exit:
    """Say why, and leave with exit code 1: `raise fail(...)`."""
    say(message, "red")
    return typer.Exit(1)
