"""The few shapes of Grafana's dashboard model that ours are made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
COLUMNS = 24
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED = "green", "orange", "red"
STEADY: tuple[tuple[float | None, str], ...] = ((None, "blue"),)


@dataclass(frozen=True)
class Panel:
    """`queries`: legend → PromQL. `steps`: colours from values up. `words`: texts for values.

    `kind`: `stat` for a number now, `timeseries` for its course.
    """

    title: str
    description: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    steps: Sequence[tuple[float | None, str]] = STEADY
    words: Mapping[int, str] | None = None
    stacked: bool = False
    least: float | None = 0
    most: float | None = None


def stat(title: str, description: str, query: str, **more: Any) -> Panel:
    """A number; four wide."""
    legend = more.pop("legend", "")
    return Panel(title, description, {legend: query}, **{"kind": "stat", "width": 4, "height": 4, **more})


def share(title: str, description: str, queries: Mapping[str, str], **more: Any) -> Panel:
    """The course of a part of a whole: from 0 to 1, shown in percent."""
    return Panel(title, description, queries, "percentunit", most=1, **more)


def bad_from(orange: float, red: float | None = None) -> tuple[tuple[float | None, str], ...]:
    """Green below; `red` is absent where there is nothing worse."""
    steps: list[tuple[float | None, str]] = [(None, GREEN), (orange, ORANGE)]
    return tuple(steps if red is None else [*steps, (red, RED)])


def good_from(good: float) -> tuple[tuple[float | None, str], ...]:
    return ((None, RED), (good, GREEN))


@dataclass(frozen=True)
class Row:
    """Panels side by side under a heading, in as many lines as they need."""

    title: str
    panels: Sequence[Panel]


def dashboard(uid: str, title: str, description: str, variables: Sequence[Json], rows: Sequence[Row]) -> Json:
    """A whole dashboard document, as Grafana provisions it."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["compute"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "title": "Compute",
                "tags": ["compute"],
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [_datasource(), *variables]},
        "annotations": {"list": [_alerts()]},
        "panels": list(_placed(rows)),
    }


def variable(name: str, label: str, metric: str, of: str) -> Json:
    """A choice of the values that a label has; all by default."""
    query = f"label_values({metric}, {of})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 3,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "current": {"selected": True, "text": "Prometheus", "value": "prometheus"},
        "options": [],
    }


def _alerts() -> Json:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "step": "15s",
    }


def _placed(rows: Iterable[Row]) -> Iterable[Json]:
    """Every panel with an id and a place of its own."""
    number = y = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, **_model(panel), "gridPos": place}
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _model(panel: Panel) -> Json:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query,
                "legendFormat": legend,
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel.kind),
    }


def _field(panel: Panel) -> Json:
    steps = [{"value": value, "color": color} for value, color in panel.steps]
    field: Json = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "noValue": "none",
    }
    field |= {key: value for key, value in (("min", panel.least), ("max", panel.most)) if value is not None}
    if panel.words:
        options = {str(value): {"text": text, "index": value} for value, text in panel.words.items()}
        field["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries":
        field["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 30 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if panel.steps is STEADY else "dashed"},
        }
    return field


def _options(kind: str) -> Json:
    if kind == "stat":
        return {
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
