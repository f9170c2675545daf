"""docs/metrics.md as data, a service's answer at /metrics as the same, and Grafana's variables filled in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
SERVICES = (
    "node-registry", "resource-detector", "vllm-orchestrator", "work-marshaling", "benchmark-runner",
    "gpu-orchestrator",
)  # fmt: skip
FILLED = {"$__rate_interval": "30s", "$node": ".*", "$gpu": ".*"}


@dataclass(frozen=True)
class Documented:
    name: str
    kind: str
    labels: frozenset[str]
    unit: str
    services: tuple[str, ...]
    meaning: str


def documented() -> list[Documented]:
    """The rows of the table, in their order."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    found = []
    for name, rest in rows:
        kind, labels, unit, services, meaning = (cell.strip() for cell in rest.split("|"))
        told = SERVICES if services == "all" else tuple(services.split(", "))
        names = frozenset(label for label in labels.split(", ") if label)
        found.append(Documented(name, kind, names, unit, told, meaning))
    return found


@dataclass(frozen=True)
class Exposed:
    """`labels`: every set of label names that its samples have; empty without samples."""

    name: str
    kind: str
    labels: frozenset[frozenset[str]]


def exposed(text: str) -> Iterator[Exposed]:
    """The metric families of one answer in Prometheus text."""
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset(frozenset(sample.labels) - {"le"} for sample in family.samples)
        yield Exposed(name, family.type, labels)


def metrics_in(query: str) -> set[str]:
    """The names of the metrics in PromQL, those of histograms without their suffix."""
    bare = re.sub(r'"[^"]*"', "", query)
    names = set(re.findall(r"\b(?:compute|process)_\w+", bare))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


def panels(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and query of each, with variables as a person would have them: all."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in FILLED.items():
                query = query.replace(name, value)
            yield f"{board['uid']}: {panel['title']}", query
