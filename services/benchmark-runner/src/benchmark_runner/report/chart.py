"""Line charts as inline SVG that need no script. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 250  # about a phone's, so that the words keep their size there
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 12, 46
SERIES = 6  # colours and dashes; more lines begin again
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Chart:
    """`lines`: name → points in any order. x is a logarithm, as batches and contexts grow."""

    title: str
    x_name: str
    y_name: str
    lines: Mapping[str, Sequence[Point]]


def svg(chart: Chart) -> str:
    """The chart with its legend below; nothing where there is no point."""
    points = [point for line in chart.lines.values() for point in line]
    if not points:
        return ""
    xs = sorted({x for x, _ in points})
    top = _nice(max(y for _, y in points))
    body = [_axes(chart, xs, top)]
    for number, line in enumerate(chart.lines.values()):
        places = [(_x(x, xs), _y(y, top)) for x, y in sorted(line)]
        body.append(_line(places, sorted(line), number % SERIES))
    legend = "".join(
        f'<li class="s{number % SERIES}"><i></i>{escape(name)}</li>'
        for number, name in enumerate(chart.lines)
    )
    label = escape(f"{chart.title}: {chart.y_name} against {chart.x_name}")
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(body)}</svg>'
        f"<ul>{legend}</ul></figure>"
    )


def _axes(chart: Chart, xs: Sequence[float], top: float) -> str:
    parts = []
    for step in range(5):
        value = top * step / 4
        y = _y(value, top)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    shown = xs[:: math.ceil(len(xs) / 6)]
    for x in shown:
        at = _x(x, xs)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_short(x)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x_name)}</text>')
    parts.append(
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_name)}</text>"
    )
    return "".join(parts)


def _line(places: Sequence[Point], values: Sequence[Point], series: int) -> str:
    path = "".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(places))
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{_short(value[0])}: {value[1]:g}</title></circle>'
        for (x, y), value in zip(places, values, strict=True)
    )
    return f'<g class="s{series}"><path d="{path}"/>{dots}</g>'


def _x(value: float, xs: Sequence[float]) -> float:
    low, high = math.log2(xs[0]), math.log2(xs[-1])
    share = (math.log2(value) - low) / (high - low) if high > low else 0.5
    return LEFT + 12 + share * (WIDTH - LEFT - RIGHT - 24)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _nice(most: float) -> float:
    """The next number of 1, 2, 4, 5, 8 × 10ⁿ: its quarters are round enough."""
    if most <= 0:
        return 1.0
    scale: float = 10 ** math.floor(math.log10(most))
    return next(step * scale for step in (1, 2, 4, 5, 8, 10, 20) if step * scale >= most)


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"
