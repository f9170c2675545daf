"""A run for people and for other programs: one self-contained HTML page, and CSV. Pure."""

from benchmark_runner.report.page import as_html
from benchmark_runner.report.table import as_csv

__all__ = ["as_csv", "as_html"]
