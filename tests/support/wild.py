"""Messages that nobody should send: seeded, so that a failure comes again. FUZZ_EXAMPLES asks for more."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, settings

MORE = int(os.environ.get("FUZZ_EXAMPLES") or 0)
TEXTS = (
    "", " ", "\0", "../../etc/passwd", "..\\..\\x", "/etc/passwd", "-x", "--help", "a b", "a\nb", "a\r\nX: y",
    "$(id)", "`id`", "${HOME}", "{{x}}", "%s%n", "'; drop table x; --", "<script>", "compute.>", "*", "a.b.*",
    "\u202egnp", "\U0001f600" * 40, "\ufeff", "x" * 5000, "e" * 129, "NaN", "null", "0x10", "1e999", "=2E",
    "é", "2026-13-45T99:99:99Z", "9999-12-31T23:59:59+23:59", "0001-01-01T00:00:00-23:59", "169.254.169.254",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2**31, 2**53 + 1, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308, -1e308, 5e-324,
)  # fmt: skip
BYTES = (
    b"", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"a":NaN}', b'{"a":"\\ud800"}', b"[" * 5000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000, b"\0" * 100, b'{"a":1}{"b":2}', b'{"a":1,"a":2}',
    b'\xef\xbb\xbf{"a":1}',
    b'{"node_id":' + b"9" * 5000 + b"}",
)  # fmt: skip


def fuzzed(examples: int) -> settings:
    """Hypothesis settings of a bounded search."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=MORE or examples, deadline=None, suppress_health_check=checks)


def messages(seed: int, count: int, names: Sequence[str], **likely: Sequence[Any]) -> Iterator[bytes]:
    """`BYTES`, then objects of `names` with wild values; `likely` are values that let some get further."""
    yield from BYTES
    chance = random.Random(seed)  # noqa: S311 - a test's own
    for _ in range(MORE or count):
        body = {chance.choice(names): value(chance) for _ in range(chance.randint(0, 8))}
        for name, values in likely.items():
            if chance.random() < 0.8:
                body[name] = chance.choice(values)
        yield json.dumps(body).encode()


def value(chance: random.Random, depth: int = 0) -> Any:
    """Anything JSON can say."""
    kind = chance.randrange(8 if depth < 4 else 5)
    if kind <= 1:
        return chance.choice(TEXTS)
    if kind <= 3:
        return chance.choice(NUMBERS)
    if kind == 4:
        return chance.choice((None, True, False))
    if kind == 5:
        return [value(chance, depth + 1) for _ in range(chance.randint(0, 4))]
    names = ("a", "index", "uuid", "name", "total_mb", "gpus", "status", "", "__proto__", "\0")
    return {chance.choice(names): value(chance, depth + 1) for _ in range(chance.randint(0, 4))}
