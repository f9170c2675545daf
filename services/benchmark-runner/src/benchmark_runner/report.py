"""A run as one self-contained HTML page, and as CSV. Pure; everything from outside is escaped."""

import csv
import io
from collections.abc import Callable, Sequence
from html import escape

from compute_common.schemas.benchmark import Benchmark, Cell

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
body{{font:15px/1.5 system-ui,sans-serif;margin:1rem auto;max-width:70rem;padding:0 1rem;color:#1c2430}}
.scroll{{overflow-x:auto}} table{{border-collapse:collapse;width:100%}}
td,th{{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #d8dee6;white-space:nowrap}}
td:first-child,th:first-child,td:last-child{{text-align:left}} td:last-child{{white-space:normal;
min-width:12rem}}
.bar{{display:flex;align-items:center;gap:.5rem;margin:.15rem 0}} .bar span{{flex:0 0 13rem}}
.bar i{{display:block;height:1rem;background:#2f6fab;min-width:1px}} .bar b{{font-weight:400}}
.bad{{color:#a3261b}}</style>
<h1>{title}</h1><p>{about}</p>{error}
<h2>Output tokens per second</h2>{speed}<h2>Time to first token, p50 (ms)</h2>{ttft}
<h2>Cells</h2><div class="scroll">{table}</div><h2>Environment</h2><table>{environment}</table></html>"""

_COLUMNS: tuple[tuple[str, Callable[[Cell], object]], ...] = (
    ("batch_size", lambda c: c.batch_size),
    ("context_length", lambda c: c.context_length),
    ("output_tokens", lambda c: c.output_tokens),
    ("valid", lambda c: c.valid),
    ("requests", lambda c: c.requests),
    ("errors", lambda c: c.errors),
    ("output_tokens_per_s", lambda c: c.output_tokens_per_s),
    ("total_tokens_per_s", lambda c: c.total_tokens_per_s),
    ("requests_per_s", lambda c: c.requests_per_s),
    ("goodput_per_s", lambda c: c.goodput_per_s),
    ("ttft_ms_p50", lambda c: c.ttft_ms.p50),
    ("ttft_ms_p99", lambda c: c.ttft_ms.p99),
    ("itl_ms_p50", lambda c: c.itl_ms.p50),
    ("itl_ms_p99", lambda c: c.itl_ms.p99),
    ("tpot_ms_p50", lambda c: c.tpot_ms.p50),
    ("e2e_ms_p50", lambda c: c.e2e_ms.p50),
    ("e2e_ms_p99", lambda c: c.e2e_ms.p99),
    ("send_lateness_ms_p99", lambda c: c.send_lateness_ms.p99),
    ("note", lambda c: c.note),
)


def as_csv(run: Benchmark) -> str:
    """One line a cell under a header. A note cannot become a spreadsheet formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([name for name, _ in _COLUMNS])
    for cell in run.cells:
        writer.writerow([_inert(value(cell)) for _, value in _COLUMNS])
    return out.getvalue()


def as_html(run: Benchmark) -> str:
    count = f"{len(run.cells)} of {run.progress.cells_total} cells"
    about = f"{run.status.value}, {count}, {run.created_at:%Y-%m-%d %H:%M} UTC"
    where = f", {run.engine or 'engine'} on {run.node_id}" if run.node_id else ""
    return _PAGE.format(
        title=escape(f"{run.model_name}: {run.benchmark_id}"),
        about=escape(about + where),
        error=f'<p class="bad">{escape(run.error)}</p>' if run.error else "",
        speed=_bars(run.cells, lambda cell: cell.output_tokens_per_s),
        ttft=_bars(run.cells, lambda cell: cell.ttft_ms.p50 or 0.0),
        table=_table(run.cells),
        environment="".join(
            f"<tr><td>{escape(str(key))}</td><td>{escape(str(value))}</td></tr>"
            for key, value in run.environment.items()
        ),
    )


def _bars(cells: Sequence[Cell], value: Callable[[Cell], float]) -> str:
    most = max((value(cell) for cell in cells), default=0.0) or 1.0
    return "".join(
        f'<div class="bar"><span>batch {cell.batch_size}, context {cell.context_length}</span>'
        f'<i style="width:{55 * value(cell) / most:.2f}%"></i><b>{value(cell):.1f}</b></div>'
        for cell in cells
    )


def _table(cells: Sequence[Cell]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in _COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(value(cell)))}</td>" for _, value in _COLUMNS) + "</tr>"
        for cell in cells
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _inert(value: object) -> str:
    text = _shown(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in "=+-@" else text
