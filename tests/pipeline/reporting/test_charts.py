"""Where bars, points and ticks are: within the plot, at round numbers, as high as their counts."""

from __future__ import annotations

import pytest
from clipmill.pipeline.reporting.charts import bar_chart, nice_step, share_chart, ticks
from clipmill.pipeline.reporting.histogram import Histogram
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=80).filter(any)


@given(COUNTS, st.booleans())
def test_bars_are_in_order_and_as_high_as_their_counts(counts: list[int], even: bool) -> None:
    edges = tuple(0.25 * 1.1**k for k in range(len(counts) + 1))
    chart = bar_chart("title", Histogram(edges, tuple(counts)), "{:.2f}".format, even=even)
    assert [bar.x for bar in chart.bars] == sorted(bar.x for bar in chart.bars)
    assert all(bar.x >= 0 and bar.x + bar.width <= 100 + 1e-9 for bar in chart.bars)
    tallest = max(bar.height for bar in chart.bars)
    assert 50 <= tallest <= 100 + 1e-9
    for bar, count in zip(chart.bars, counts, strict=True):
        assert bar.height / tallest == pytest.approx(count / max(counts))
        assert bar.says.endswith(f": {count:,}")
    assert len({tick.text for tick in chart.up}) == len(chart.up)
    assert all(-1e-9 <= tick.at <= 100 + 1e-9 for tick in (*chart.across, *chart.up))


@given(st.floats(-1, 0.99), st.floats(0.001, 2))
def test_ticks_are_round_numbers_within_the_axis(low: float, span: float) -> None:
    found = ticks((low, low + span))
    assert 1 <= len(found) <= 10
    for tick in found:
        assert low - 1e-6 <= float(tick.text) <= low + span + 1e-6
        assert tick.at == pytest.approx(100 * (float(tick.text) - low) / span, abs=0.1)


def test_whole_numbers_have_no_decimals() -> None:
    assert [tick.text for tick in ticks((0, 1100))] == ["0", "200", "400", "600", "800", "1,000"]
    assert [tick.text for tick in ticks((-1, 1))] == ["-1.0", "-0.5", "0.0", "0.5", "1.0"]


def test_steps_are_one_two_or_five() -> None:
    assert [nice_step(least) for least in (0.11, 0.2, 1, 3, 501)] == pytest.approx([0.2, 0.2, 1, 5, 1000])


def test_a_share_falls_from_all_to_none() -> None:
    chart = share_chart("title", [(0.0, 1.0), (0.5, 0.25), (1.0, 0.0)], [(0.5, 0.25)], (0.0, 1.0))
    assert chart.line == ((0.0, 100.0), (50.0, 25.0), (100.0, 0.0))
    assert [(mark.x, mark.y, mark.text) for mark in chart.marks] == [(50.0, 25.0, "25%")]
