"""What `compute yield` understands before it asks anybody."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from compute_cli.commands.owner import instant_of, seconds_of
from compute_cli.main import app

NOW = datetime.fromisoformat("2026-11-23T18:30:00").astimezone()


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h", 10_800), ("90m", 5_400), ("1d12h", 129_600), ("45s", 45)]
)
def test_spans(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_a_clock_time_is_the_next_one() -> None:
    assert instant_of("23:00", NOW) - NOW == timedelta(hours=4, minutes=30)
    assert instant_of("18:30", NOW) - NOW == timedelta(days=1)
    assert instant_of("2026-11-24T00:00:00Z", NOW).isoformat() != ""


@pytest.mark.parametrize("text", ["", "h", "3", "-3h", "0h", "soon"])
def test_no_span(text: str) -> None:
    with pytest.raises(typer.Exit):
        seconds_of(text)


@pytest.mark.parametrize("text", ["25:00", "12:60", "tomorrow"])
def test_no_time(text: str) -> None:
    with pytest.raises(typer.Exit):
        instant_of(text, NOW)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["../x"], "no node id"),
        (["box:all"], "names no GPU"),
        (["box:0", "--for", "1h", "--end"], "give one of"),
        (["box", "--until", "never"], "no time"),
    ],
)
def test_what_is_refused_at_once(arguments: list[str], reason: str, capfd: Any) -> None:
    answer = CliRunner().invoke(app, ["yield", *arguments])
    assert answer.exit_code == 1
    assert reason in re.sub(r"\s+", " ", answer.output + capfd.readouterr().err)
