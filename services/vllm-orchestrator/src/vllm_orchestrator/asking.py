"""Asking another host's orchestrator, by node id."""

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.problems import Problem, not_found


async def ask_host(bus: Bus, verb: str, node_id: str, body: Message, seconds: float) -> Message:
    """The answer on `compute.vllm.<verb>.v1.<node_id>`. Problem 404 where nobody serves it."""
    try:
        return await bus.request(subjects.vllm_subject(verb, node_id), body, seconds)
    except Problem as problem:
        if problem.cause != "no-responder":
            raise
        detail = f"no orchestrator answers on node '{node_id}'; is that host up, and is the id right?"
        raise not_found("unknown-node", detail) from problem
