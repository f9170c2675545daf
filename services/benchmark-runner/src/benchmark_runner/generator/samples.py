"""Raw samples on their way from the generator to the service. Pure.

Microseconds as whole numbers: half the bytes of floats, and far below what a socket's time stamp is worth.
"""

from typing import Any

from benchmark_runner.timing import RequestTiming

MICRO = 1e6


def flat(timing: RequestTiming, zero: float) -> list[Any]:
    """`timing` as JSON, its times counted from `zero`."""
    return [
        *(round((moment - zero) * MICRO) for moment in (timing.due, timing.sent, timing.ended)),
        [round((moment - zero) * MICRO) for moment in timing.chunks],
        timing.prompt_tokens,
        timing.output_tokens,
        timing.error,
        timing.scheduled,
        timing.repeat,
    ]


def timing_of(sample: list[Any]) -> RequestTiming:
    """What `flat` was made from, its times counted from that zero."""
    due, sent, ended, chunks, prompt_tokens, output_tokens, error, scheduled, repeat = sample
    return RequestTiming(
        due / MICRO,
        sent / MICRO,
        ended / MICRO,
        tuple(moment / MICRO for moment in chunks),
        prompt_tokens,
        output_tokens,
        error,
        scheduled,
        repeat,
    )
