"""A report's numbers on labels: images by class, and how sure the labels are."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from ..dataset.labels import Labels
from ..dataset.sql import files, register_storage
from ..labelling.classes import NONE
from .histogram import Histogram

_CLASSES = 16  # shown of the classes, the most frequent
_BARS = 20  # of the probabilities


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


def create_view(connection: duckdb.DuckDBPyConnection, labels: Labels) -> None:
    """`labels`: shard, row, label and probability of the labelled rows that `pairs` has; and `uncovered`, see above."""
    register_storage(connection, labels.output.url, labels.output.storage_options)
    # in float32, as `label` has it: the best class's share beside the background
    uncovered = "background > probability * (1::FLOAT - background)" if "background" in labels.floats else "NULL"
    connection.execute(
        f"CREATE VIEW labels AS SELECT shard, row, label, probability::DOUBLE AS probability, {uncovered} AS uncovered "
        f"FROM {files(map(labels.url_of, labels.parts))} SEMI JOIN pairs USING (shard, row) WHERE label IS NOT NULL"
    )


def label_numbers(connection: duckdb.DuckDBPyConnection, labels: Labels) -> LabelNumbers:
    rows = connection.execute(
        "SELECT label, count(*) AS images, avg(probability), count(*) FILTER (uncovered) FROM labels GROUP BY label "
        "ORDER BY images DESC, label"
    ).fetchall()
    counts = [LabelCount(*row[:3]) for row in rows if row[0] != NONE]
    images, none = sum(row[1] for row in rows), next((row for row in rows if row[0] == NONE), None)
    bars = connection.execute(
        f"SELECT least(floor(probability * {_BARS}), {_BARS - 1}) AS bar, count(*) FROM labels GROUP BY bar"
    )
    edges = [bar / _BARS for bar in range(_BARS + 1)]
    return LabelNumbers(
        images=images,
        none=none[1] if none else 0,
        none_by_background=none[3] if none and labels.background else 0,
        background=labels.background,
        uncovered=sum(row[3] for row in rows) if "background" in labels.floats else None,
        classes=len(counts),
        most=tuple(counts[:_CLASSES]),
        probabilities=Histogram.of({(bar + 0.5) / _BARS: count for bar, count in bars.fetchall()}, edges),
    )
