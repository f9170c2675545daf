"""The services over HTTP, for commands: refusals become one readable line."""

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from compute_cli.suite import home_of, service_urls
from compute_common.access.key_file import client_token
from compute_common.access.tls import client_context
from compute_common.ids import check_identifier

OWN_KEY = "for the commands of this host: `compute keys add NAME --scope admin --use`, or COMPUTE_API_KEY"


class Refused(Exception):  # noqa: N818 - reads as what happened
    """A service said no, or did not answer; the message is fit for a terminal."""

    def __init__(self, message: str, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.document = dict(document or {})


class Services:
    """A client of the six services of one suite."""

    def __init__(self, environ: Mapping[str, str] | None = None, timeout_seconds: float = 35.0) -> None:
        environ = os.environ if environ is None else environ
        try:
            self.urls = service_urls(environ)
        except ValueError as error:
            raise Refused(str(error)) from error
        key = client_token(environ, home_of(environ))
        self._http = httpx.Client(
            timeout=timeout_seconds,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=client_context(environ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, service: str, path: str, **params: Any) -> dict[str, Any]:
        """The JSON object at `path` of `service`; `Refused` otherwise."""
        given = {key: value for key, value in params.items() if value is not None}
        return self._send(service, "GET", path, params=given)

    def post(self, service: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._send(service, "POST", path, json=dict(body or {}))

    def text(self, service: str, path: str) -> str:
        """What lies at `path` as text, e.g. a page; `Refused` otherwise."""
        url = self.urls[service] + path
        try:
            answer = self._http.get(url)
        except httpx.HTTPError as error:
            raise Refused(f"{service} does not answer at {self.urls[service]}") from error
        if answer.is_error:
            raise Refused(refusal(url, answer))
        return answer.text

    def delete(self, service: str, path: str) -> dict[str, Any]:
        return self._send(service, "DELETE", path)

    def events(self, service: str, path: str, **params: Any) -> Iterator[tuple[str, str]]:
        """(event, data) of server-sent events until the service ends them; `Refused` otherwise."""
        url = self.urls[service] + path
        given = {key: value for key, value in params.items() if value is not None}
        try:
            with self._http.stream("GET", url, params=given) as answer:
                if answer.is_error:
                    answer.read()
                    raise Refused(refusal(url, answer))
                kind = "message"
                for line in answer.iter_lines():
                    word, _, rest = line.partition(": ")
                    if word == "event":
                        kind = rest
                    elif word == "data":
                        yield kind, rest
                        kind = "message"
        except httpx.HTTPError as error:
            raise Refused(f"{service} stopped answering at {self.urls[service]}") from error

    def health(self, service: str) -> dict[str, Any] | None:
        """The health document, whatever its verdict; None when nobody answers."""
        try:
            answer: dict[str, Any] = self._http.get(f"{self.urls[service]}/healthz", timeout=3).json()
        except (httpx.HTTPError, ValueError):
            return None
        return answer

    def _send(self, service: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        url = self.urls[service] + path
        try:
            answer = self._http.request(method, url, **options)
        except httpx.HTTPError as error:
            reason = (
                "did not answer in time" if isinstance(error, httpx.TimeoutException) else "does not answer"
            )
            raise Refused(
                f"{service} {reason} at {self.urls[service]}; is the suite up? (`compute up`)"
            ) from error
        try:
            body: dict[str, Any] = answer.json() if answer.content else {}
        except ValueError as error:
            raise Refused(f"{url} answered {answer.status_code} with something that is not JSON") from error
        if not answer.is_success:
            raise Refused(refusal(url, answer), body)
        return body


def path_segment(name: str) -> str:
    """`name` where it can be one segment of a path and no other route; `Refused` with the rule otherwise."""
    try:
        return check_identifier(name)
    except ValueError as error:
        raise Refused(f"{name!r} is no name: {error}") from error


def refusal(url: str, answer: httpx.Response) -> str:
    """Why a service said no, in its words; a key that is wanted with how to get one."""
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{url} answered {answer.status_code}"
    return f"{detail}; {OWN_KEY}" if answer.status_code == httpx.codes.UNAUTHORIZED else detail
