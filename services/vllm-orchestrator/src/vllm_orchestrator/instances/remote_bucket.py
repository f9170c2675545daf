"""The records for a host whose NATS account has no JetStream: it asks on `compute.vllm.instances.v1`.

What is asked there arrives at the orchestrators of the shared account under the host's name (`record_desk`).
"""

from dataclasses import dataclass
from typing import Any

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from pydantic import ValidationError

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.problems import Problem
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.record_asks import Ask, Found, Kept, Listing

ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Entry:
    """As the client library's."""

    value: bytes
    revision: int


class RemoteBucket:
    """What `InstanceTable` wants of a bucket. Problem 503 while nobody answers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._listed: dict[str, Entry] = {}

    async def keys(self) -> list[str]:
        """Of this host's records; `get` answers them from the same listing."""
        listing = Listing.model_validate(await self._ask(Ask(verb="list")))
        self._listed = {
            subjects.token(found.record.instance_name): Entry(wire_json.dump(found.record), found.revision)
            for found in listing.records
            if found.record is not None
        }
        return list(self._listed)

    async def get(self, key: str) -> Entry:
        if key not in self._listed:
            raise KeyNotFoundError
        return self._listed[key]

    async def create(self, key: str, value: bytes) -> int:
        return await self._put(key, value, None)

    async def update(self, key: str, value: bytes, last: int) -> int:
        return await self._put(key, value, last)

    async def delete(self, key: str, last: int) -> None:
        _kept(await self._ask(Ask(verb="delete", name=subjects.untoken(key), last=last)))

    async def look_up(self, name: str) -> tuple[Record | None, int]:
        found = Found.model_validate(await self._ask(Ask(verb="get", name=name)))
        return found.record, found.revision

    async def _put(self, key: str, value: bytes, last: int | None) -> int:
        record = Record.model_validate(wire_json.parse(value))
        return _kept(await self._ask(Ask(verb="put", name=subjects.untoken(key), record=record, last=last)))

    async def _ask(self, ask: Ask) -> dict[str, Any]:
        try:
            return await self._bus.request(subjects.VLLM_INSTANCES, ask, ANSWER_SECONDS)
        except ValidationError as error:
            raise Problem(502, "bad-answer", "the answer on instance records cannot be read") from error


def _kept(answer: dict[str, Any]) -> int:
    kept = Kept.model_validate(answer)
    if kept.revision is None:
        raise KeyWrongLastSequenceError
    return kept.revision
