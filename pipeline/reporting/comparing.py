"""A report's tables that compare: groups of rows with each other, and the dataset with another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .charts import bar_chart
from .frame import TOP
from .groups import Grouped
from .numbers import Numbers
from .similarity import Similarity
from .words import decimal_text, percent_text, share_row

if TYPE_CHECKING:
    from .page import Contents

_TITLES = {"label": "By label", "source": "By source (domain of the url)"}


def grouped_rows(found: Grouped, numbers: Numbers) -> dict[str, Any]:
    """Bars show the mean, from the lowest similarity that the histogram shows to the highest."""
    similarity = next(of for of in numbers.similarities if of.alias == found.alias)
    low, high = similarity.histogram.edges[0], similarity.histogram.edges[-1]
    rows = [
        share_row(
            group.name,
            max(0.0, group.mean - low),
            high - low,
            f"{group.rows:,}",
            f"{group.mean:.3f}",
            f"{group.kept / group.rows:.0%}",
        )
        for group in found.groups
    ]
    shown = len(found.groups)
    more = f", the {shown} most frequent of {found.count:,}" if found.count > shown else ""
    return {"alias": found.alias, "title": f"{_TITLES[found.by]}{more}", "rows": rows}


def against_rows(contents: Contents) -> dict[str, Any]:
    """Both datasets' figures beside each other, and how far they agree."""
    other = contents.measured.against
    assert other is not None
    numbers = contents.measured.numbers
    mine = numbers.similarities[0] if numbers.similarities else None
    return {
        "url": other.url,
        "heads": ["", "this dataset", "the other"],
        "rows": [*_counts(numbers, other.numbers), *_figures(mine, other.similarity)],
        "histogram": bar_chart("Pairs of the other by similarity", other.similarity.histogram, decimal_text)
        if other.similarity
        else None,
        "agreement": _agreement(contents),
        "models": f"{contents.settings.model} here, {other.model} there.",
    }


def _counts(mine: Numbers, theirs: Numbers) -> list[tuple[str, ...]]:
    both = (mine.counts, theirs.counts)
    names = ("rows", "embedded", "failed", "pairs")
    shares = (percent_text(of.failed, of.rows) or "-" for of in both)
    return [*((name, *(f"{getattr(of, name):,}" for of in both)) for name in names), ("failed, share", *shares)]


def _figures(mine: Similarity | None, theirs: Similarity | None) -> list[tuple[str, ...]]:
    both = (mine, theirs)
    rows: list[tuple[str, ...]] = [("mean similarity", *(f"{of.mean:.3f}" if of else "-" for of in both))]
    for fraction in (0.1, 0.3, 0.5, 0.9):
        figures = (f"{of.threshold_of(fraction):.4f}" if of else "-" for of in both)
        rows.append((f"top {fraction:.0%}: similarity at least", *figures))
    return rows


def _agreement(contents: Contents) -> str:
    against = contents.measured.against
    agreement = against.agreement if against else None
    if agreement is None:
        return "They have no pair in common (by shard and row), so their rows are not compared one by one."
    agree = [
        f"{agreement.rows:,} pairs are in both",
        f"{agreement.both_top:,} are among the top {TOP:.0%} of both, {agreement.either_top:,} of at least one",
    ]
    if agreement.correlation is not None:
        agree.insert(1, f"their similarities correlate by {agreement.correlation:.3f}")
    return f"{'; '.join(agree)}."
