"""What `compute submit` and `compute work` refuse before they ask, and what a prompt becomes."""

import pytest
from typer.testing import CliRunner

from compute_cli.commands.questions import prompt_payload
from compute_cli.main import app


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 1, result.output
    return result.stderr


def test_a_prompt_is_a_question_with_an_end() -> None:
    asked = prompt_payload("Say hi", "inference", 60, complete=False)
    assert asked == {"messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 60}


def test_a_prompt_to_go_on_with() -> None:
    assert prompt_payload("Once", "inference", 60, complete=True) == {"prompt": "Once", "max_tokens": 60}


def test_a_prompt_of_another_work_type() -> None:
    assert prompt_payload("Once", "embedding", 60, complete=False) == {"input": "Once"}
    assert prompt_payload("Once", "word-count", 60, complete=False) == {"prompt": "Once"}


def test_nothing_to_do_is_not_queued() -> None:
    assert "a prompt or --payload" in refusal("submit")
    assert "a prompt or --payload" in refusal("submit", "")
    assert "a prompt or --payload" in refusal("submit", "Say hi", "--payload", "{}")


@pytest.mark.parametrize(("payload", "reason"), [("{bad", "is not JSON"), ("[1]", "is not a JSON object")])
def test_a_payload_that_is_none(payload: str, reason: str) -> None:
    assert reason in refusal("submit", "--payload", payload)


def test_one_item_or_several() -> None:
    assert "--cancel wants the id" in refusal("work", "--cancel")
    assert "or --status" in refusal("work", "w-1", "--status", "pending")
