"""What reaches a terminal, a pipe and the exit code, whatever goes wrong."""

import sys
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from compute_cli.client import Refused, path_segment, refusal
from compute_cli.console import UNBOUNDED_COLUMNS, answers_console, as_written
from compute_cli.main import main
from compute_cli.views import table

LONG = "node-" + "0123456789abcdef" * 4


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["compute", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def printed(what: object, width: int) -> str:
    out = StringIO()
    Console(file=out, width=width).print(what, crop=False)
    return out.getvalue()


def test_no_name_is_cut_in_a_narrow_terminal() -> None:
    text = printed(table("", ("node", "status"), [(LONG, "online")]), 30)
    assert "…" not in text
    assert "".join(line[:22].strip() for line in text.splitlines()[1:]).startswith(LONG[:40])


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", StringIO())
    assert answers_console().width == UNBOUNDED_COLUMNS
    monkeypatch.setenv("COLUMNS", "100")
    assert answers_console().width == 100


def test_a_line_of_a_log_stays_one() -> None:
    assert printed(as_written(LONG), 30) == LONG + "\n"


@pytest.mark.parametrize("name", ["", "../x", "a b", "events", "ö"])
def test_what_is_no_name_is_not_asked_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="is no name"):
        path_segment(name)


def test_a_name_is_asked_for() -> None:
    assert path_segment("smollm2-2.q4_k_m") == "smollm2-2.q4_k_m"


@pytest.mark.parametrize(
    "arguments", [("stop", ""), ("work", ""), ("logs", "../x"), ("work", "", "--cancel")]
)
def test_commands_refuse_what_is_no_name(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 1
    assert "is no name" in capsys.readouterr().err


def test_a_port_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NODE_REGISTRY_PORT", "abc")
    assert run(monkeypatch, "nodes") == 1
    assert "NODE_REGISTRY_PORT must be a port number, not 'abc'" in capsys.readouterr().err


def test_a_home_that_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("NODE_ID", raising=False)
    assert run(monkeypatch, "up") == 1
    said = capsys.readouterr().err
    assert "File exists" in said
    assert "Traceback" not in said


def test_a_key_that_is_wanted_is_explained() -> None:
    answer = httpx.Response(401, json={"detail": "send the API key"})
    assert refusal("http://localhost", answer).startswith("send the API key; for the commands of this host: ")
    assert "`compute keys add NAME" in refusal("http://localhost", answer)
    assert refusal("http://localhost", httpx.Response(404, json={"detail": "gone"})) == "gone"
