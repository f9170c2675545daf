"""The page: charts of throughput and latency against batch, rate and context, table, environment. Pure."""

from collections.abc import Callable, Sequence
from html import escape

from benchmark_runner.report.chart import Chart, Point, svg
from benchmark_runner.report.table import as_rows
from compute_common.schemas.benchmark import Benchmark, Cell

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>{style}</style>
</head><body><header><h1>{model}</h1><p>{about}</p>{error}</header><main>
<section class="tiles">{tiles}</section><section class="charts">{charts}</section>{rates}
<h2>Cells</h2><div class="scroll" tabindex="0">{table}</div>
<h2>Environment</h2><div class="scroll" tabindex="0"><table class="pairs">{environment}</table></div>
<h2>Asked for</h2><div class="scroll" tabindex="0"><table class="pairs">{request}</table></div>
</main></body></html>"""

_STYLE = """
:root{--ink:#17202b;--soft:#5a6675;--line:#dde3ea;--page:#fff;--tile:#f5f7fa;--bad:#a3261b;
--s0:#1f63a8;--s1:#b4540a;--s2:#1c7c4a;--s3:#8a3aa0;--s4:#a3261b;--s5:#5a6675}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#9aa7b5;--line:#313b47;--page:#12171d;
--tile:#1b222b;--bad:#ff8d80;--s0:#6db1f5;--s1:#f0a35c;--s2:#6fce9b;--s3:#d79bea;--s4:#ff8d80;--s5:#9aa7b5}}
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:76rem;padding:1rem;
color:var(--ink);background:var(--page);overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.6rem 0 .5rem}
header p{margin:.2rem 0;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem;margin:1rem 0}
.tiles div{background:var(--tile);border-radius:.5rem;padding:.6rem .8rem}
.tiles b{display:block;font-size:1.3rem}
.tiles span{color:var(--soft);font-size:.85rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}
figure{margin:0;min-width:0}figcaption{font-weight:600}svg{width:100%;height:auto;display:block}
svg text{font-size:14px;fill:var(--soft)}svg .grid{stroke:var(--line);fill:none}
svg g path{fill:none;stroke-width:2.5}svg g circle{stroke:var(--page);stroke-width:1.5}
figure ul{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.2rem 0;padding:0;font-size:.9rem}
li i{display:inline-block;width:1.2rem;height:.25rem;margin-right:.4rem;vertical-align:middle}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
td,th{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:600}td:last-child{white-space:normal;min-width:14rem;text-align:left}
.pairs td:first-child{text-align:left;color:var(--soft)}.bad,.bad td{color:var(--bad)}
""" + "".join(
    f".s{n} path{{stroke:var(--s{n})}}.s{n} circle{{fill:var(--s{n})}}.s{n} i{{background:var(--s{n})}}"
    for n in range(6)
)

Value = Callable[[Cell], float | None]


def as_html(run: Benchmark) -> str:
    """One self-contained page, no script, nothing loaded; everything from outside is escaped."""
    return _PAGE.format(
        style=_STYLE,
        title=escape(f"{run.model_name}: {run.benchmark_id}"),
        model=escape(run.model_name),
        about=escape(_about(run)),
        error=f'<p class="bad">{escape(run.error)}</p>' if run.error else "",
        tiles="".join(
            f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in _tiles(run)
        ),
        charts="".join(svg(chart) for chart in _charts(run.cells)),
        rates=_rates(run),
        table=as_rows(run),
        environment=_pairs(run.environment),
        request=_pairs(run.request),
    )


def _about(run: Benchmark) -> str:
    cells = f"{len(run.cells)} of {run.progress.cells_total} cells"
    where = f", {run.engine or 'engine'} on {run.node_id}" if run.node_id else ""
    return f"{run.benchmark_id}: {run.status.value}, {cells}, {run.created_at:%Y-%m-%d %H:%M} UTC{where}"


def _tiles(run: Benchmark) -> list[tuple[str, str]]:
    good = [cell for cell in run.cells if cell.valid]
    invalid = len(run.cells) - len(good)
    tiles = []
    if good:
        best = max(good, key=lambda cell: cell.output_tokens_per_s)
        tiles.append((f"output tokens/s, best ({_load(best)})", f"{best.output_tokens_per_s:.1f}"))
        quickest = min(good, key=lambda cell: cell.ttft_ms.p50 or float("inf"))
        if quickest.ttft_ms.p50 is not None:
            tiles.append((f"ms to the first token, p50 ({_load(quickest)})", f"{quickest.ttft_ms.p50:.0f}"))
    tiles.append(("errors", str(sum(cell.errors for cell in run.cells))))
    if invalid:
        tiles.append(("cells not valid: see their notes", str(invalid)))
    return tiles


def _charts(cells: Sequence[Cell]) -> list[Chart]:
    """Cells not valid are in the table only."""
    good = [cell for cell in cells if cell.valid and cell.request_rate is None]
    rated = [cell for cell in cells if cell.valid and cell.request_rate is not None]
    speed: Value = lambda c: c.output_tokens_per_s  # noqa: E731  (a table of small functions)
    ttft: Value = lambda c: c.ttft_ms.p50  # noqa: E731
    tpot: Value = lambda c: c.tpot_ms.p50  # noqa: E731
    batch, context = (lambda c: c.batch_size), (lambda c: c.context_length)
    charts = []
    for title, unit, value in (
        ("Throughput", "output tokens/s", speed),
        ("Time to first token", "p50, ms", ttft),
        ("Time per output token", "p50, ms", tpot),
    ):
        charts += [
            Chart(f"{title} by batch", "batch size", unit, _lines(good, batch, context, "context", value)),
            Chart(
                f"{title} by context", "context, tokens", unit, _lines(good, context, batch, "batch", value)
            ),
        ]
    rate: Callable[[Cell], float] = lambda c: c.request_rate or 0.0  # noqa: E731
    kept: Value = lambda c: c.slo_attainment  # noqa: E731
    p99: Value = lambda c: c.ttft_ms.p99  # noqa: E731
    charts.append(
        Chart("SLO kept by rate", "requests/s", "share", _lines(rated, rate, context, "context", kept))
    )
    charts.append(
        Chart("TTFT by rate", "requests/s", "p99, ms", _lines(rated, rate, context, "context", p99))
    )
    return charts


def _lines(
    cells: Sequence[Cell], x: Callable[[Cell], float], by: Callable[[Cell], float], name: str, value: Value
) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = {}
    for cell in sorted(cells, key=by):
        y = value(cell)
        if y is not None:
            lines.setdefault(f"{name} {by(cell):g}", []).append((x(cell), y))
    return lines


def _rates(run: Benchmark) -> str:
    if not run.max_rates:
        return ""
    rows = "".join(
        f"<tr><td>{found.context_length}</td><td>{found.requests_per_s:g}</td><td>{found.attainment:.1%}</td>"
        f"<td>{escape(found.limited_by)}</td></tr>"
        for found in run.max_rates
    )
    head = "<tr><th>context</th><th>requests/s</th><th>kept</th><th>limited by</th></tr>"
    table = f'<div class="scroll" tabindex="0"><table>{head}{rows}</table></div>'
    return f"<h2>Highest rate that keeps the SLO</h2>{table}"


def _pairs(values: dict[str, object]) -> str:
    return "".join(
        f"<tr><td>{escape(key.replace('_', ' '))}</td><td>{escape(str(value))}</td></tr>"
        for key, value in values.items()
    )


def _load(cell: Cell) -> str:
    load = f"batch {cell.batch_size}" if cell.request_rate is None else f"{cell.request_rate:g} requests/s"
    return f"{load}, context {cell.context_length}"
