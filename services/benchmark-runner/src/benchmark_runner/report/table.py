"""The columns of a run's table and of its CSV. Pure; everything from outside is escaped."""

import csv
import io
from collections.abc import Callable
from html import escape

from compute_common.schemas.benchmark import Benchmark, Cell

Column = tuple[str, Callable[[Cell], object]]

COLUMNS: tuple[Column, ...] = (
    ("batch_size", lambda c: c.batch_size if c.request_rate is None else None),
    ("request_rate", lambda c: c.request_rate),
    ("context_length", lambda c: c.context_length),
    ("output_tokens", lambda c: c.output_tokens),
    ("valid", lambda c: "yes" if c.valid else "no"),
    ("requests", lambda c: c.requests),
    ("errors", lambda c: c.errors),
    ("output_tokens_per_s", lambda c: c.output_tokens_per_s),
    ("output_tokens_per_s_low", lambda c: _bound(c, "low")),
    ("output_tokens_per_s_high", lambda c: _bound(c, "high")),
    ("total_tokens_per_s", lambda c: c.total_tokens_per_s),
    ("requests_per_s", lambda c: c.requests_per_s),
    ("goodput_per_s", lambda c: c.goodput_per_s),
    ("slo_attainment", lambda c: c.slo_attainment),
    *(
        (f"{name}_{share}", lambda c, name=name, share=share: getattr(getattr(c, name), share))
        for name in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")
        for share in ("p50", "p90", "p95", "p99")
    ),
    ("send_lateness_ms_p99", lambda c: c.send_lateness_ms.p99),
    ("generator_stall_ms_p99", lambda c: c.generator_stall_ms.p99),
    ("ram_used_mb", lambda c: c.resources.ram_used_mb if c.resources else None),
    ("vram_used_mb", lambda c: c.resources.vram_used_mb if c.resources else None),
    ("power_w", lambda c: c.resources.power_w if c.resources else None),
    ("partial", lambda c: "yes" if c.partial else None),
    ("note", lambda c: c.note),
)


def as_csv(run: Benchmark) -> str:
    """One line a cell under a header. A note cannot become a spreadsheet formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([name for name, _ in COLUMNS])
    for cell in run.cells:
        writer.writerow([_inert(value(cell)) for _, value in COLUMNS])
    return out.getvalue()


def as_rows(run: Benchmark) -> str:
    """The same as an HTML table; columns that no cell has anything in are left out."""
    columns = [(name, value) for name, value in COLUMNS if any(value(cell) is not None for cell in run.cells)]
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name, _ in columns)
    rows = "".join(
        f"<tr{'' if cell.valid else ' class=bad'}>"
        + "".join(f"<td>{escape(_shown(value(cell)))}</td>" for _, value in columns)
        + "</tr>"
        for cell in run.cells
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _bound(cell: Cell, end: str) -> float | None:
    found = cell.intervals.get("output_tokens_per_s")
    return getattr(found, end) if found is not None else None


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _inert(value: object) -> str:
    text = _shown(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in "=+-@\t" else text
