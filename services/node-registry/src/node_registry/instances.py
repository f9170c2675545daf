"""Model instances as their orchestrators report them; one that is no longer confirmed is taken out."""

from collections.abc import Iterator
from dataclasses import replace

from compute_common.enums import InstanceStatus
from compute_common.schemas.vllm import InstanceEvent
from node_registry.records import InstanceFacts

UNCONFIRMED_SECONDS = 61.0  # four of the 15 s repeats and a second
MOST_INSTANCES = 50_000
_GONE = frozenset({InstanceStatus.STOPPED, InstanceStatus.FAILED})


def facts_of(event: InstanceEvent, now: float) -> tuple[InstanceFacts, bool]:
    """What an instance event says, and whether the instance is gone."""
    instance = event.instance
    facts = InstanceFacts(
        instance_name=instance.instance_name,
        model_name=instance.model_name,
        status=instance.status,
        served_names=tuple(instance.served_names[:64]),
        api=instance.endpoints.api,
        confirmed=now,
        wakeable=instance.wakeable,
    )
    gone = instance.status in _GONE and not instance.wakeable
    return facts, event.event == "removed" or gone


class InstanceTable:
    """Instances by node."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[str, InstanceFacts]] = {}
        self._count = 0

    def of(self, node_id: str) -> tuple[InstanceFacts, ...]:
        return tuple(self._by_node.get(node_id, {}).values())

    def all(self) -> Iterator[tuple[str, InstanceFacts]]:
        for node_id, held in self._by_node.items():
            for facts in held.values():
                yield node_id, facts

    def apply(self, node_id: str, facts: InstanceFacts, removed: bool) -> bool:
        """Whether anything but the time of confirmation changed."""
        held = self._by_node.get(node_id, {})
        old = held.get(facts.instance_name)
        if removed:
            return self._drop(node_id, facts.instance_name)
        if old is None and self._count >= MOST_INSTANCES:
            return False
        self._count += old is None
        self._by_node.setdefault(node_id, {})[facts.instance_name] = facts
        return old is None or replace(old, confirmed=facts.confirmed) != facts

    def expire(self, now: float) -> list[str]:
        """Drop what was not confirmed in time; the ids of the nodes concerned."""
        stale = [
            (node_id, facts.instance_name)
            for node_id, facts in self.all()
            if now - facts.confirmed > UNCONFIRMED_SECONDS
        ]
        for node_id, name in stale:
            self._drop(node_id, name)
        return list(dict.fromkeys(node_id for node_id, _name in stale))

    def grant(self, seconds: float) -> None:
        """Do not count a time in which nothing could be heard."""
        for held in self._by_node.values():
            for name, facts in held.items():
                held[name] = replace(facts, confirmed=facts.confirmed + seconds)

    def _drop(self, node_id: str, name: str) -> bool:
        held = self._by_node.get(node_id, {})
        if held.pop(name, None) is None:
            return False
        self._count -= 1
        if not held:
            self._by_node.pop(node_id, None)
        return True
