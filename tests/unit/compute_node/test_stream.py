"""Streams of an OpenAI-compatible engine, put together again."""

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from compute_node.job import WorkError
from compute_node.stream import Answer, fold_stream


async def lines(*chunks: Any, done: bool = True) -> AsyncIterator[str]:
    for chunk in chunks:
        yield chunk if isinstance(chunk, str) else f"data: {json.dumps(chunk)}"
        yield ""
    if done:
        yield "data: [DONE]"


def chat(text: str | None, finish: str | None = None) -> dict[str, Any]:
    delta = {"role": "assistant"} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


async def test_a_chat_stream_becomes_one_answer() -> None:
    clock = itertools.count(10, 5)
    usage = {"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": {"completion_tokens": 2}}
    stream = lines(": comment", chat(None), chat(""), chat("Hel"), chat("lo"), chat("", "stop"), usage)
    answer = await fold_stream(stream, lambda: float(next(clock)))
    assert (answer.text, answer.finish_reason, answer.model) == ("Hello", "stop", "m")
    assert answer.ttft_ms == 10.0
    assert answer.usage == {"completion_tokens": 2}
    assert answer.raw["object"] == "chat.completion"
    assert answer.raw["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}


async def test_a_completion_stream_has_text() -> None:
    chunk = {"object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "length"}]}
    answer = await fold_stream(lines(chunk), lambda: 1.0)
    assert (answer.text, answer.finish_reason) == ("Hi", "length")
    assert answer.raw["choices"][0]["text"] == "Hi"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (lines(chat("Hel"), done=False), "broke off"),
        (lines("data: {oops"), "not JSON"),
        (lines({"error": {"message": "out of memory"}}), "out of memory"),
    ],
)
async def test_a_broken_stream_is_an_error(stream: AsyncIterator[str], words: str) -> None:
    with pytest.raises(WorkError, match=words):
        await fold_stream(stream, lambda: 1.0)


def test_an_answer_in_one_piece() -> None:
    raw = {
        "model": "m",
        "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"a": 1},
    }
    answer = Answer.of_whole(raw)
    assert (answer.text, answer.finish_reason, answer.usage, answer.ttft_ms) == ("Hi", "stop", {"a": 1}, None)
    assert Answer.of_whole({"data": [], "choices": "x"}).text is None
