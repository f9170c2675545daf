"""`compute nodes`: versions are shown where there are several."""

from typing import Any

from compute_cli.views import nodes_table


def node(name: str, version: str | None) -> dict[str, Any]:
    return {"node_id": name, "status": "online", "tier": "CPU_ONLY", "compute_version": version}


def columns(*nodes: dict[str, Any]) -> list[str]:
    return [str(column.header) for column in nodes_table(nodes).columns]


def test_a_column_only_where_several_run() -> None:
    assert "version" not in columns(node("a", "0.1.0"), node("b", "0.1.0"), node("worker", None))
    assert columns(node("a", "0.1.0"), node("b", "0.2.0"), node("worker", None))[-1] == "version"
