"""Which scope a request needs: reading, changing, or what only an operator does."""

import re

from compute_common.access.api_keys import Scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Questions that are asked with a body, and change nothing.
QUESTIONS = frozenset(
    {
        "/query",
        "/api/v1/nodes/query",
        "/api/v1/gpu/can-fit",
        "/api/v1/vllm/plan",
        "/api/v1/benchmark/compare",
    }
)
_OPERATORS = re.compile(
    r"""
      .*/(cordon|uncordon|drain|undrain|attach|purge)/*   # takes hosts, cards and servers out or in
    | /api/v1/gpu/yields(/.*)?                            # gives a machine to its owner
    | /api/v1/blacklist/.*                                # forgives a node
    | /api/v1/(keys|admin)(/.*)?
    """,
    re.VERBOSE,
)
_NODE = re.compile(r"/(api/v1/)?nodes/[^/]+/*")


def needed_scope(method: str, path: str) -> Scope:
    """Reads need `read`, changes `write`, what an operator does `admin`; an unknown method is a change."""
    if method in SAFE_METHODS:
        return Scope.READ
    if method == "POST" and path in QUESTIONS:
        return Scope.READ
    if _OPERATORS.fullmatch(path) or (method == "DELETE" and _NODE.fullmatch(path)):
        return Scope.ADMIN
    return Scope.WRITE
