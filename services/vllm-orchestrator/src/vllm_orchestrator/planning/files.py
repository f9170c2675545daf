"""Which hosts have a model's files, by the names that they tell."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import Host, folded
from vllm_orchestrator.planning.result import Plan


def hosts_with(profile: ModelProfile, hosts: Iterable[Host]) -> frozenset[str]:
    """The ids of the hosts that have the model whole."""
    names = {folded(name) for name in (profile.name, *profile.aliases)}
    return frozenset(host.node_id for host in hosts if not names.isdisjoint(host.models))


def said(found: Plan, hosts: Sequence[Host]) -> Plan:
    """The plan with a word on files, where any host is known to have them."""
    has = hosts_with(found.profile, hosts)
    if not has:
        return found
    lacking = [place.node_id for place in found.places if place.node_id not in has]
    if lacking:
        words = f"Its files are fetched to {', '.join(lacking[:4])} first ({min(has)} has them)."
    else:
        words = "Its files are there."
    return replace(found, explanation=f"{found.explanation} {words}")
