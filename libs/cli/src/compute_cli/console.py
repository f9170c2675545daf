"""How commands speak: answers on standard output, progress and refusals on standard error."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

console = Console()
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
        console.print(view(answer), markup=False)


def fail(message: str) -> typer.Exit:
    """Say why, and leave with exit code 1: `raise fail(...)`."""
    say(message, "red")
    return typer.Exit(1)
