"""A streamed OpenAI-compatible answer, put together again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from compute_common import wire_json
from compute_node.job import WorkError


@dataclass
class Answer:
    """`raw` has the shape of an answer in one piece. `ttft_ms`: to the first text; None if not streamed."""

    text: str | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    model: str | None = None
    ttft_ms: float | None = None
    chunks: int = 0  # those that brought text
    raw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_whole(cls, raw: dict[str, Any]) -> "Answer":
        """From an answer in one piece; an embedding has no text."""
        choice = _first_choice(raw)
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else choice.get("text")
        usage = raw.get("usage")
        return cls(
            text=text if isinstance(text, str) else None,
            finish_reason=choice.get("finish_reason"),
            usage=usage if isinstance(usage, dict) else None,
            model=raw.get("model") if isinstance(raw.get("model"), str) else None,
            raw=raw,
        )


async def _nobody(_answer: Answer) -> None:
    return None


async def fold_stream(
    lines: AsyncIterator[str],
    elapsed_ms: Callable[[], float],
    tell: Callable[[Answer], Awaitable[None]] = _nobody,
) -> Answer:
    """Fold `data:` lines up to `[DONE]`; `tell` gets what there is so far whenever text has come.

    Raises `WorkError` for an error the engine sends midway.
    """
    answer = Answer(text="")
    chat = False
    ended = False
    async for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            ended = True
            break
        chunk = _parse(data)
        chat = chat or "chat" in str(chunk.get("object", ""))
        piece = _piece(chunk)
        _note(answer, chunk)
        if piece:
            answer.ttft_ms = round(elapsed_ms(), 3) if answer.ttft_ms is None else answer.ttft_ms
            answer.text = (answer.text or "") + piece
            answer.chunks += 1
            await tell(answer)
    if not ended and answer.finish_reason is None:
        raise WorkError("the engine's stream broke off before its end")
    _assemble(answer, chat)
    return answer


def _parse(data: str) -> dict[str, Any]:
    try:
        chunk = wire_json.parse_object(data.encode())
    except ValueError as error:
        raise WorkError("the engine's stream holds something that is not JSON") from error
    if "error" in chunk:
        raise WorkError(f"the engine failed midway: {str(chunk['error'])[:1000]}")
    return chunk


def _piece(chunk: dict[str, Any]) -> str:
    choice = _first_choice(chunk)
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


def _note(answer: Answer, chunk: dict[str, Any]) -> None:
    for key in ("id", "created", "model", "system_fingerprint", "timings"):
        if chunk.get(key) is not None:
            answer.raw[key] = chunk[key]
    if isinstance(chunk.get("usage"), dict):
        answer.usage = chunk["usage"]
    answer.finish_reason = _first_choice(chunk).get("finish_reason") or answer.finish_reason


def _assemble(answer: Answer, chat: bool) -> None:
    model = answer.raw.get("model")
    answer.model = model if isinstance(model, str) else None
    choice: dict[str, Any] = {"index": 0, "finish_reason": answer.finish_reason}
    if chat:
        choice["message"] = {"role": "assistant", "content": answer.text}
    else:
        choice["text"] = answer.text
    answer.raw |= {
        "object": "chat.completion" if chat else "text_completion",
        "choices": [choice],
        "usage": answer.usage,
    }


def _first_choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
