"""The requests that are let through, and how each is asked of Docker: made anew, never passed on."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from compute_common.engine_containers import MARK, MARKED

CONTAINER = r"(?P<id>[0-9a-f]{64})"
_NUMBER, _FLAG = re.compile(r"\d{1,10}(?:\.\d{1,9})?\Z"), re.compile(r"[01]\Z")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9./:@_-]{0,254}\Z")
MAX_QUERY = 1024


@dataclass(frozen=True)
class Door:
    """One method and path; `query` names what may be asked with, `fixed` what is always asked with."""

    action: str
    method: str
    path: re.Pattern[str]
    query: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    streams: bool = False


@dataclass(frozen=True)
class Passage:
    """A request that fits a door: what Docker is asked."""

    door: Door
    query: Mapping[str, str]
    container: str | None

    @property
    def asked(self) -> str:
        """The path at Docker, made of the door's own words and a checked id."""
        if self.container is None:
            return self.door.path.pattern
        tail = self.door.path.pattern.partition(CONTAINER)[2]
        return f"/containers/{self.container}{tail}"


_OURS = json.dumps({"label": [f"{MARK}={MARKED}"]})
DOORS = (
    Door("ping", "GET", re.compile("/_ping")),
    Door("list", "GET", re.compile("/containers/json"), fixed={"all": "1", "filters": _OURS}),
    Door("create", "POST", re.compile("/containers/create"), {"name": _NAME}),
    Door("image", "GET", re.compile("/images/json"), {"image": _IMAGE}),
    Door("pull", "POST", re.compile("/images/create"), {"fromImage": _IMAGE}, streams=True),
    Door("inspect", "GET", re.compile(f"/containers/{CONTAINER}/json")),
    Door("start", "POST", re.compile(f"/containers/{CONTAINER}/start")),
    Door("stop", "POST", re.compile(f"/containers/{CONTAINER}/stop"), {"t": _NUMBER}),
    Door("remove", "DELETE", re.compile(f"/containers/{CONTAINER}"), fixed={"force": "1", "v": "1"}),
    Door(
        "logs",
        "GET",
        re.compile(f"/containers/{CONTAINER}/logs"),
        {"since": _NUMBER, "follow": _FLAG},
        {"stdout": "1", "stderr": "1"},
        streams=True,
    ),
    Door(
        "stats",
        "GET",
        re.compile(f"/containers/{CONTAINER}/stats"),
        fixed={"stream": "0", "one-shot": "1"},
    ),
)  # fmt: skip


def passage(method: str, raw_path: bytes, raw_query: bytes) -> Passage:
    """The request as one that is let through. ValueError, with the reason, for every other."""
    try:
        path = raw_path.decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError("the path is not plain") from error
    for door in DOORS:
        match = door.path.fullmatch(path) if door.method == method else None
        if match is not None:
            return Passage(door, _query(door, raw_query), match.groupdict().get("id"))
    raise ValueError("this is not among what engines need of Docker")


def _query(door: Door, raw: bytes) -> dict[str, str]:
    """What is asked with; a word of `fixed` may be said, but not otherwise."""
    if len(raw) > MAX_QUERY:
        raise ValueError("the query is too long")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw))
    except ValueError as error:
        raise ValueError("the query cannot be read") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        rule = door.query.get(name)
        same = door.fixed.get(name) == value
        if name in found or not (same or (rule is not None and rule.match(value))):
            raise ValueError(f"the query may not say {name[:40]!r} so")
        found[name] = value
    return {**found, **door.fixed}
