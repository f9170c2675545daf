"""Server-sent events of an OpenAI-compatible stream, cut out of bytes. Pure; runs once a token."""

import json
from dataclasses import dataclass
from typing import Any

MAX_LINE_BYTES = 1 << 20


class GarbageError(ValueError):
    """The stream is not what an OpenAI-compatible server sends."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event: whether it carried text, how the answer ended, what the server counted."""

    has_text: bool = False
    finished: bool = False
    done: bool = False
    prompt_tokens: int | None = None
    output_tokens: int | None = None


class Events:
    """Feed it bytes as they come; it gives whole events and keeps the rest."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Chunk]:
        """Raises GarbageError on a line that is no event, or one without end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise GarbageError("a line without end")
        return [chunk(line[5:].strip()) for line in lines if line.startswith(b"data:")]


def chunk(payload: bytes) -> Chunk:
    """One event's payload."""
    if payload == b"[DONE]":
        return Chunk(done=True)
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise GarbageError("an event that is not JSON") from error
    if not isinstance(body, dict):
        raise GarbageError("an event that is not a JSON object")
    if "error" in body and "choices" not in body:
        raise GarbageError("the server reported an error inside the stream")
    first = _first_choice(body)
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Chunk(
        has_text=_has_text(first),
        finished=first.get("finish_reason") is not None,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


def _has_text(choice: dict[str, Any]) -> bool:
    """Of a completion or of a chat; what a model thinks aloud counts as text."""
    if choice.get("text"):
        return True
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return False
    return bool(delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"))


def _first_choice(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else None
