"""The memory model against logged start-ups of real vLLM (docs/performance.md shows every point)."""

from statistics import median, quantiles

import pytest

from tests.perf.memory_figures import DOCS, SECTION_END, SECTION_START, table
from tests.unit.vllm_orchestrator.points import Point, points

POINTS = points()


def error(point: Point) -> float:
    assert point.logged_gib
    return abs(point.predicted_gib - point.logged_gib) / point.logged_gib


def test_kv_cache_is_predicted() -> None:
    errors = [error(point) for point in POINTS if point.fitted]
    assert len(errors) >= 45
    assert median(errors) <= 0.02
    assert quantiles(errors, n=10)[-1] <= 0.10


@pytest.mark.parametrize("point", [p for p in POINTS if not p.fitted], ids=lambda point: point.name)
def test_what_did_not_fit_is_not_called_a_fit(point: Point) -> None:
    assert not point.verdict


@pytest.mark.parametrize("point", [p for p in POINTS if p.fitted], ids=lambda point: point.name)
def test_what_fitted_is_called_a_fit(point: Point) -> None:
    assert point.verdict


@pytest.mark.parametrize(
    "point", [p for p in POINTS if p.row["quantization"] == "none"], ids=lambda p: p.name
)
def test_unquantised_weights_are_within_a_rounding_and_an_adapter(point: Point) -> None:
    logged = point.row["weights_gib_per_gpu"]
    if logged and not any(word in point.row["note"] for word in ("pooling", "multimodal")):
        predicted = point.stages[0].weights / (1 << 30)
        assert float(logged) - predicted == pytest.approx(0.0, abs=0.3)


def test_the_published_table_is_this_one() -> None:
    text = (DOCS / "performance.md").read_text("utf-8")
    published = text.split(SECTION_START)[1].split(SECTION_END)[0]
    assert published.strip() == table(POINTS).strip()
