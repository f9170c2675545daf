"""Parsing JSON from outside: strict UTF-8, no NaN, no lone surrogates, bounded depth; and writing it."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json


def parse(data: bytes) -> Any:
    """The value in `data`; ValueError for anything that is not plain JSON."""
    return from_json(data, allow_inf_nan=False)


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; ValueError for anything else."""
    value = parse(data)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is expected")
    return value


def dump(value: Any) -> bytes:
    """`value` (models, dataclasses, datetimes included) as compact JSON bytes."""
    return to_json(value)


def validation_errors(error: ValidationError) -> list[dict[str, Any]]:
    """A pydantic error as `[{field, message}]`, without echoing hostile input back."""
    return [
        {"field": ".".join(str(part) for part in item["loc"])[:200], "message": item["msg"][:300]}
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
