"""Times on the wire: RFC 3339 UTC with `Z` outbound; naive (read as UTC) or any offset inbound."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer


def utc_now() -> datetime:
    """The wall clock in UTC. Only shells and adapters call it; cores are handed a time."""
    return datetime.now(UTC)


def as_utc(value: datetime) -> datetime:
    """`value` in UTC; a naive time is taken to be UTC already. ValueError outside years 1..9999."""
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time lies outside the calendar") from error


def rfc3339(value: datetime) -> str:
    """`2026-11-23T14:15:16.123456Z`."""
    return as_utc(value).isoformat().replace("+00:00", "Z")


UtcTime = Annotated[
    datetime, AfterValidator(as_utc), PlainSerializer(rfc3339, return_type=str, when_used="json")
]
