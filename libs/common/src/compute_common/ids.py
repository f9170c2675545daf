"""Identifiers: hostile until they match, safe afterwards in a path, an argv, YAML and a subject."""

import re
import secrets
from typing import Annotated

from pydantic import AfterValidator, Field

IDENTIFIER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
RESERVED = frozenset({"events", "query", "register", "heartbeat", "stats"})
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN[:-1] + r"\Z")  # `$` would let a trailing newline through


def check_identifier(value: str) -> str:
    """Return `value` when it is an identifier; ValueError with the rule otherwise."""
    if not _IDENTIFIER.match(value):
        raise ValueError("must be 1-128 letters, digits, '.', '_' or '-', and start with a letter or digit")
    if value.lower() in RESERVED:
        raise ValueError(f"'{value}' is a reserved word")
    return value


Identifier = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=IDENTIFIER_PATTERN, examples=["gpu-box-1"]),
    AfterValidator(check_identifier),
]


def is_identifier(value: object) -> bool:
    """Whether `value` may be used as a node, work, instance, benchmark or reservation id."""
    return isinstance(value, str) and bool(_IDENTIFIER.match(value)) and value.lower() not in RESERVED


def new_id(prefix: str) -> str:
    """A fresh identifier such as `res-5f0c9a1b2c3d4e5f`: 64 random bits behind a readable prefix."""
    return f"{prefix}-{secrets.token_hex(8)}"


def slug(text: str, fallback: str = "node") -> str:
    """Turn free text (a host name, the last part of a model name) into an identifier."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:120]
    return cleaned if is_identifier(cleaned) else fallback
