"""A report's numbers on labels: images by class, and how sure the labels are."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from ..dataset.labels import Labels
from ..labelling.classes import NONE
from .histogram import Histogram
from .numbers import rows_by_name, rows_by_number
from .sums import BARS, UNIT

_CLASSES = 16  # shown of the classes, the most frequent


@dataclass(frozen=True)
class LabelCount:
    label: str
    images: int
    probability: float  # their mean


@dataclass(frozen=True)
class LabelNumbers:
    """images = those with a class + none. none = those that the background fits better + those too unsure."""

    images: int
    none: int
    none_by_background: int  # where `label` was given the names of a background
    background: tuple[str, ...]  # these names
    uncovered: int | None  # images that the background fits better than any class; None where labels do not tell
    classes: int  # with at least one image
    most: tuple[LabelCount, ...]
    probabilities: Histogram  # of the best label, of all images


def label_numbers(connection: duckdb.DuckDBPyConnection, labels: Labels) -> LabelNumbers:
    """Of the sums (see sums.py)."""
    rows = connection.execute("SELECT name, rows, total FROM sums WHERE what = 'labels' ORDER BY rows DESC, name")
    found = [LabelCount(name, images, int(total) / (images * UNIT)) for name, images, total in rows.fetchall()]
    uncovered = rows_by_name(connection, "uncovered")
    counts, images = [count for count in found if count.label != NONE], sum(count.images for count in found)
    bars = rows_by_number(connection, "probabilities")
    return LabelNumbers(
        images=images,
        none=images - sum(count.images for count in counts),
        none_by_background=uncovered.get(NONE, 0) if labels.background else 0,
        background=labels.background,
        uncovered=sum(uncovered.values()) if has_background(labels) else None,
        classes=len(counts),
        most=tuple(counts[:_CLASSES]),
        probabilities=Histogram.of(
            {(bar + 0.5) / BARS: count for bar, count in bars.items()}, [bar / BARS for bar in range(BARS + 1)]
        ),
    )


def has_background(labels: Labels) -> bool:
    """Whether labels tell how well the background fits."""
    return "background" in labels.floats
