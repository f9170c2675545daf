"""Bounds on one request: how much may come, how slowly, and how long an answer may take to begin."""

import asyncio
import re
import time
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from compute_common.problems import Problem

# What waits by design: an engine's answer (its own limit is 600 s), and a benchmark that is not put aside.
_PATIENT = re.compile(r"/v1/.*|/api/v1/benchmark/run")


@dataclass(frozen=True, slots=True)
class Bounds:
    """0 seconds: no bound."""

    body_bytes: int
    body_seconds: float
    answer_seconds: float

    def answer_deadline(self, path: str) -> float | None:
        """The event loop's time by which the answer must have begun; None where a route may wait."""
        if not self.answer_seconds or _PATIENT.fullmatch(path):
            return None
        return asyncio.get_running_loop().time() + self.answer_seconds


def bounded(receive: Receive, bounds: Bounds) -> Receive:
    """`receive` that refuses a body growing beyond the limit (413) or dripping in (408)."""
    seen = 0
    complete = False
    by = time.monotonic() + bounds.body_seconds

    async def next_message() -> Message:
        nonlocal seen, complete
        if complete or not bounds.body_seconds:
            message = await receive()
        else:
            try:
                async with asyncio.timeout(max(0.0, by - time.monotonic())):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, too_slow(bounds).detail, {"Connection": "close"}) from error
        if message["type"] == "http.request":
            complete = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > bounds.body_bytes:
                raise HTTPException(413, too_large(bounds).detail)
        return message

    return next_message


def too_large(bounds: Bounds) -> Problem:
    detail = f"the body exceeds {bounds.body_bytes} bytes; send less at a time"
    return Problem(413, "body-too-large", detail)


def too_slow(bounds: Bounds) -> Problem:
    return Problem(
        408, "body-too-slow", f"the body was not here within {bounds.body_seconds:g} s; send it again"
    )


def too_long(bounds: Bounds) -> Problem:
    detail = f"no answer within {bounds.answer_seconds:g} s; what was asked for may still be done"
    return Problem(504, "answer-too-late", detail)
