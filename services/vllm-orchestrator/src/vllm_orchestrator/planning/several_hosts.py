"""How an engine spans hosts: by vLLM's own ranks, or by Ray.

Own ranks (vllm pull request 23691, in releases from 0.12 on) are dealt out evenly: every host has as many.
Ray takes hosts as they are, but the stock images have left it out since 0.18.
"""

from dataclasses import replace

from vllm_orchestrator.planning.release import release_of
from vllm_orchestrator.planning.result import Plan, Wish

RAY = "ray"
RAY_WORDS = (
    "Its hosts are joined by Ray, which must be in the image (stock images from 0.18 on have none): start"
    " docker_compose by hand on each, or leave distributed_executor_backend and engine_version out."
)


def uses_ray(wish: Wish) -> bool:
    """Whether a layout over hosts is joined by Ray: asked for, or of a release without ranks of its own."""
    return wish.backend == RAY or not release_of(wish.engine_version).has_ranks


def said(found: Plan) -> Plan:
    """The plan with a word on Ray, where that joins its hosts."""
    return replace(found, explanation=f"{found.explanation} {RAY_WORDS}") if joined_by_ray(found) else found


def headed_by(found: Plan, node_id: str) -> Plan:
    """The plan with this host first, where it is one of several that hold the same."""
    own = [place for place in found.places if place.node_id == node_id]
    rest = [place for place in found.places if place.node_id != node_id]
    alike = len({(place.reserved_mb, len(place.gpu_indices)) for place in found.places}) == 1
    return replace(found, places=(*own, *rest)) if own and alike and not found.stage_layers else found


def joined_by_ray(plan: Plan) -> bool:
    """Whether this plan is: it spans hosts, and by Ray."""
    return len(plan.places) > 1 and uses_ray(plan.wish)
