"""The memory model against logged start-ups: the table of docs/performance.md and its plot.

`python -m tests.perf.memory_figures` writes both anew; a unit test holds the table to the code.
"""

from collections.abc import Sequence
from math import log10
from pathlib import Path
from statistics import median, quantiles

from tests.unit.vllm_orchestrator.points import Point, points

DOCS = Path(__file__).parents[2] / "docs"
SECTION_START, SECTION_END = "<!-- memory-model -->", "<!-- /memory-model -->"
SIDE, MARGIN = 480, 56
LEAST, MOST = 1.0, 200.0
TICKS = (1, 2, 5, 10, 20, 50, 100, 200)
_HEAD = """\
| | model | GPU | TP×PP | vLLM | logged GiB | predicted | error | weights logged / predicted | verdict |
|---|---|---|---|---|---|---|---|---|---|"""


def table(found: Sequence[Point]) -> str:
    """Summary and one row for every point, as markdown."""
    fitted = [point for point in found if point.fitted]
    errors = [_error(point.predicted_gib, point.logged_gib) for point in fitted]
    given = [_error(point.given_weights_gib or point.predicted_gib, point.logged_gib) for point in fitted]
    refused = [point for point in found if not point.fitted]
    summary = f"""\
KV cache of {len(fitted)} start-ups, predicted from the model's shape and the settings alone: median error
**{median(errors):.1%}**, p90 **{_p90(errors):.1%}** (targets 3 %, 10 %); with the weights as logged
{median(given):.1%} and {_p90(given):.1%}. Of {len(refused)} that did not start
{sum(point.verdict for point in refused)} are called a fit; of the {len(fitted)} that did
{sum(not point.verdict for point in fitted)} are refused.
"""
    return "\n".join([summary, _HEAD, *(_row(point) for point in found)])


def plot(found: Sequence[Point]) -> str:
    """Logged against predicted KV GiB, both logarithmic, as SVG; the band is ±10 %."""
    body = [_band(), *(_tick(value) for value in TICKS)]
    body += [_dot(point) for point in found if point.fitted and point.logged_gib]
    text = '<text x="{}" y="{}" text-anchor="middle"{}>{}</text>'
    body.append(text.format(SIDE / 2, SIDE - 10, "", "logged KV cache, GiB per GPU"))
    turn = f' transform="rotate(-90 16 {SIDE / 2})"'
    body.append(text.format(16, SIDE / 2, turn, "predicted, GiB per GPU"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" font-family="sans-serif"'
        f' font-size="12">\n<rect width="{SIDE}" height="{SIDE}" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _p90(errors: list[float]) -> float:
    return quantiles(errors, n=10)[-1]


def _row(point: Point) -> str:
    row, logged = point.row, point.logged_gib
    error = f"{_error(point.predicted_gib, logged):.1%}" if point.fitted else ""
    weights = f"{row['weights_gib_per_gpu'] or '–'} / {point.tightest.weights / (1 << 30):.2f}"
    said = "fits" if point.verdict else "does not fit"
    happened = {"ok": "started", "oom": "out of memory", "no_kv": "refused: KV"}[row["outcome"]]
    cells = (
        point.name,
        row["model"].rpartition("/")[2],
        row["gpu"].partition(" (")[0],
        f"{point.tp}×{point.pp}",
        row["vllm_version"] or "–",
        f"{logged:.2f}" if logged is not None else "–",
        f"{point.predicted_gib:.2f}",
        error,
        weights,
        f"{said}; {happened}",
    )
    return f"| {' | '.join(cells)} |"


def _error(predicted: float, logged: float | None) -> float:
    return abs(predicted - logged) / logged if logged else 0.0


def _at(value: float) -> float:
    span = SIDE - 2 * MARGIN
    return MARGIN + span * (log10(min(MOST, max(LEAST, value))) - log10(LEAST)) / log10(MOST / LEAST)


def _dot(point: Point) -> str:
    logged = point.logged_gib or LEAST
    far = _error(point.predicted_gib, logged) > 0.1
    title = f"{point.name} {point.row['model']}: logged {logged:.2f}, predicted {point.predicted_gib:.2f} GiB"
    x, y = _at(logged), SIDE - _at(point.predicted_gib)
    colour = "#c0392b" if far else "#2471a3"
    shape = f'cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" opacity="0.75"'
    return f"<circle {shape}><title>{title}</title></circle>"


def _band() -> str:
    low, high = LEAST, MOST
    corners = ((low, low * 1.1), (high, high), (high, high * 0.9), (low, low))
    path = " ".join(f"{_at(x):.1f},{SIDE - _at(y):.1f}" for x, y in corners)
    return f'<polygon points="{path}" fill="#d5e8d4"/>'


def _tick(value: int) -> str:
    at, far = _at(value), SIDE - MARGIN
    return (
        f'<path d="M{at:.1f} {far} V{MARGIN} M{MARGIN} {SIDE - at:.1f} H{far}" stroke="#ddd" fill="none"/>'
        f'<text x="{at:.1f}" y="{far + 16}" text-anchor="middle">{value}</text>'
        f'<text x="{MARGIN - 6}" y="{SIDE - at + 4:.1f}" text-anchor="end">{value}</text>'
    )


def main() -> None:
    found = points()
    page = DOCS / "performance.md"
    before, _, rest = page.read_text("utf-8").partition(SECTION_START)
    after = rest.partition(SECTION_END)[2]
    page.write_text(f"{before}{SECTION_START}\n{table(found)}\n{SECTION_END}{after}", "utf-8")
    (DOCS / "memory-model.svg").write_text(plot(found), "utf-8")


if __name__ == "__main__":
    main()
