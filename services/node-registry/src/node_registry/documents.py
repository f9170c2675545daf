"""Merging what a node says of itself: fields present in the message replace, absent ones stay."""

from dataclasses import replace

from pydantic import ValidationError

from compute_common.schemas.base import JsonObject
from compute_common.schemas.node import Heartbeat, Node, NodeDocument
from node_registry.records import Boots

# Of no lasting meaning: the moment of sending.
_PASSING = frozenset({"timestamp"})
_BEAT_FIELDS = frozenset(Heartbeat.model_fields) - {"node_id", "timestamp", "boot_id", "status"}


def merge(old: NodeDocument | None, new: NodeDocument) -> NodeDocument:
    """`old` with every field that `new` carries; neither is changed."""
    if old is None:
        return new.model_copy()
    fields = {name: getattr(new, name) for name in new.model_fields_set - _PASSING}
    merged = old.model_copy(update=fields)
    merged.model_fields_set.discard("timestamp")
    return merged


def same(old: NodeDocument, new: NodeDocument) -> bool:
    """Whether the two say the same, their time of sending apart."""
    return comparable(old) == comparable(new)


def comparable(document: NodeDocument) -> JsonObject:
    """The document as plain values without the passing fields and what changes with every reading."""
    body = document.model_dump(exclude_unset=True, exclude=set(_PASSING))
    if isinstance(body.get("memory"), dict):
        body["memory"] = {key: value for key, value in body["memory"].items() if key in _LASTING_MEMORY}
    for name in _BEAT_FIELDS:
        body.pop(name, None)
    return body


_LASTING_MEMORY = frozenset({"total_mb", "swap_total_mb"})


def first_beat(document: NodeDocument) -> tuple[Heartbeat | None, list[str]]:
    """Utilisation and free capacity a flat document carries, and warnings for what of it is not usable."""
    extra = document.model_extra or {}
    given = {name: extra[name] for name in _BEAT_FIELDS if name in extra}
    if not given:
        return None, []
    try:
        return Heartbeat.model_validate({**given, "node_id": document.node_id}), []
    except ValidationError as error:
        wrong = sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]})
        return None, [f"ignored because not usable: {', '.join(wrong)}"]


def descriptive(document: NodeDocument) -> JsonObject:
    """Fields the contract does not name, returned as they came; none may pose as a field of the answer."""
    extra = document.model_extra or {}
    return {name: value for name, value in extra.items() if name not in Node.model_fields}


def boots_after(boots: Boots, boot_id: str | None, now: float, quiet_seconds: float) -> Boots:
    """A new boot id is a restart; one that was already left behind and speaks again is a second host.

    It is taken for gone again when for `quiet_seconds` only one was heard.
    """
    if boot_id is None:
        return boots
    if boot_id != boots.current:
        cloned = boots.cloned or boot_id == boots.previous
        return Boots(current=boot_id, previous=boots.current, since=now, cloned=cloned)
    if boots.cloned and now - boots.since > quiet_seconds:
        return replace(boots, cloned=False)
    return boots
