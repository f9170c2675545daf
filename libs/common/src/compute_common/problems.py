"""Refusals: one exception that becomes RFC 9457 problem+json on HTTP and the same object on NATS."""

from collections.abc import Mapping, Sequence
from typing import Any

from compute_common.ids import new_id


class Problem(Exception):  # noqa: N818 - named as RFC 9457 names it
    """A refusal with a reason a person can act on.

    `cause` is a stable word (`unknown-node`) that becomes the URN `urn:compute:error:<cause>`; `detail` says
    what to do; `extra` are further members of the document (a shortfall per GPU, say).
    """

    def __init__(
        self,
        status: int,
        cause: str,
        detail: str,
        *,
        title: str | None = None,
        errors: Sequence[Mapping[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.cause = cause
        self.detail = detail
        self.title = title or cause.replace("-", " ").capitalize()
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self, instance: str | None = None) -> dict[str, Any]:
        """The problem+json object, with `error` and `error_id` for older clients."""
        body: dict[str, Any] = {
            "type": f"urn:compute:error:{self.cause}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
            "error_id": new_id("err"),
            **self.extra,
        }
        if instance is not None:
            body["instance"] = instance
        if self.errors:
            body["errors"] = list(self.errors)
        return body


def not_found(cause: str, detail: str) -> Problem:
    """A 404."""
    return Problem(404, cause, detail)


def conflict(cause: str, detail: str, **extra: Any) -> Problem:
    """A 409."""
    return Problem(409, cause, detail, **extra)


def invalid(detail: str, *, cause: str = "invalid-request", **extra: Any) -> Problem:
    """A 422."""
    return Problem(422, cause, detail, **extra)


def unavailable(cause: str, detail: str, *, retry_after_seconds: int = 2) -> Problem:
    """A 503 that tells when to come back."""
    return Problem(503, cause, detail, headers={"Retry-After": str(retry_after_seconds)})
