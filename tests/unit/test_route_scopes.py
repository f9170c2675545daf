"""Every route of the six services, with the scope that it needs: a new one must be placed here."""

import importlib

import pytest

from compute_cli.suite import SERVICES
from compute_common.access.scopes import needed_scope

ADMIN = {
    "DELETE /api/v1/blacklist/{node_id}",
    "DELETE /api/v1/nodes/{node_id}",
    "POST /api/v1/gpu/yields",
    "POST /api/v1/gpu/yields/end",
    "POST /api/v1/gpu/{index}/cordon",
    "POST /api/v1/gpu/{index}/uncordon",
    "POST /api/v1/nodes/{node_id}/drain",
    "POST /api/v1/nodes/{node_id}/undrain",
    "POST /api/v1/vllm/attach",
    "POST /nodes/{node_id}/drain",
    "POST /nodes/{node_id}/undrain",
}
READ_WITH_A_BODY = {
    "POST /api/v1/benchmark/compare",
    "POST /api/v1/gpu/can-fit",
    "POST /api/v1/nodes/query",
    "POST /api/v1/vllm/plan",
    "POST /query",
}


@pytest.fixture(scope="module")
def routes() -> set[str]:
    """`METHOD /path` of all six."""
    found = set()
    for spec in SERVICES:
        document = importlib.import_module(f"{spec.package}.app").app.openapi()
        for path, operations in document["paths"].items():
            found |= {f"{method.upper()} {path}" for method in operations}
    return found


def test_operators_routes(routes: set[str]) -> None:
    assert {route for route in routes if scope_of(route) == "admin"} == ADMIN


def test_only_questions_are_read_with_a_body(routes: set[str]) -> None:
    read = {route for route in routes if scope_of(route) == "read" and not route.startswith("GET ")}
    assert read == READ_WITH_A_BODY


def test_no_get_needs_more_than_read(routes: set[str]) -> None:
    assert {scope_of(route) for route in routes if route.startswith("GET ")} == {"read"}


def scope_of(route: str) -> str:
    method, path = route.split(" ")
    return needed_scope(method, path.replace("{", "").replace("}", "")).value
