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
    """images = those with a class + none."""

    images: int
    none: int  # their best label was not probable enough
    classes: int  # with at least one image
    most: tuple[LabelCount, ...]
    probabilities: Histogram  # of the best label, of all images


def create_view(connection: duckdb.DuckDBPyConnection, labels: Labels) -> None:
    """`labels`: shard, row, label and probability of the labelled rows that `pairs` has."""
    register_storage(connection, labels.output.url, labels.output.storage_options)
    connection.execute(
        f"CREATE VIEW labels AS SELECT shard, row, label, probability::DOUBLE AS probability "
        f"FROM {files(map(labels.url_of, labels.parts))} SEMI JOIN pairs USING (shard, row) WHERE label IS NOT NULL"
    )


def label_numbers(connection: duckdb.DuckDBPyConnection) -> LabelNumbers:
    rows = connection.execute(
        "SELECT label, count(*) AS images, avg(probability) FROM labels GROUP BY label ORDER BY images DESC, label"
    ).fetchall()
    counts = [LabelCount(*row) for row in rows if row[0] != NONE]
    images = sum(images for _, images, _ in rows)
    bars = connection.execute(
        f"SELECT least(floor(probability * {_BARS}), {_BARS - 1}) AS bar, count(*) FROM labels GROUP BY bar"
    )
    edges = [bar / _BARS for bar in range(_BARS + 1)]
    probabilities = Histogram.of({(bar + 0.5) / _BARS: count for bar, count in bars.fetchall()}, edges)
    return LabelNumbers(
        images, images - sum(c.images for c in counts), len(counts), tuple(counts[:_CLASSES]), probabilities
    )
