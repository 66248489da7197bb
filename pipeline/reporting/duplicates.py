"""Groups of duplicates for a report: the largest that `dedup` found, or those among a sample of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..dataset.dataset import Dataset, vectors_of
from ..dataset.subset import Subset, rows_within
from ..deduplication.components import connect
from ..deduplication.groups import DuplicateGroups
from ..deduplication.kmeans import unit
from ..job.dedup import DedupJob
from ..records import Vectors
from .duplicates_sample import Kept, Sample
from .shown_rows import Place, Row, ShownRows, rows_at

GROUPS, MEMBERS = 12, 8  # shown
SAMPLE = 1 << 13  # images compared with each other, in a second or two
_A_PART = 1 << 10  # images of each of many parts
_TILE = 1 << 10  # images whose cosines with all others are in memory


@dataclass(frozen=True)
class DuplicateGroup:
    """rows: some of `size`; the figure of all but the first is the cosine with it."""

    size: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Duplicates:
    """compared: images of a sample; None where `dedup` compared all. threshold: a cosine; None where only equal files
    were looked for. largest: the largest groups, the largest first."""

    source: str | None  # the subset that `dedup` wrote
    compared: int | None
    threshold: float | None
    groups: int
    rows: int  # in all groups
    largest: tuple[DuplicateGroup, ...]


def duplicates_of(
    connection: duckdb.DuckDBPyConnection,
    shown_rows: ShownRows,
    of: DuplicateGroups | None,
    within: Subset | None,
    alias: str | None,
) -> Duplicates | None:
    """of: what `dedup` found; without it a sample is compared. None where there are no images to compare."""
    dataset = shown_rows.dataset
    if of is None:
        return among_some(shown_rows, within, alias) if "images" in dataset.settings.embeds else None
    groups, rows = of.counts(connection)
    largest = _shown(dataset, of.largest(connection, GROUPS, MEMBERS), of.column)
    return Duplicates(of.output.url, None, of.threshold, groups, rows, largest)


def among_some(shown_rows: ShownRows, within: Subset | None, alias: str | None) -> Duplicates:
    """Images of a few parts, or all of a small dataset, each compared with each."""
    dataset = shown_rows.dataset
    column, threshold = f"{dataset.model(alias).prefix}image_embedding", DedupJob.threshold
    sample = Sample.of(dataset, within, column, SAMPLE, max(_A_PART, SAMPLE // len(dataset.parts)))
    if (kept := sample.recalled(dataset.output)) is not None:
        return Duplicates(None, kept.compared, threshold, kept.groups, kept.rows, _again(shown_rows, kept))
    shards = dict(zip(dataset.parts, dataset.shards(), strict=True))
    read = list(_sampled(dataset, within, column, sample))
    places = [(shards[part], row) for part, rows, _ in read for row in rows.tolist()]
    vectors = np.concatenate([vectors for *_, vectors in read]) if read else np.empty((0, 1), np.float32)
    first = connect(np.arange(len(vectors)), _near(vectors, threshold))
    leaders, counts = np.unique(first, return_counts=True)
    grouped = [(leader, count) for leader, count in zip(leaders, counts, strict=True) if count > 1]
    grouped.sort(key=lambda group: -group[1])
    largest = [
        (int(count), [places[member] for member in np.flatnonzero(first == leader)[:MEMBERS]])
        for leader, count in grouped[:GROUPS]
    ]
    in_groups, shown = int(sum(count for _, count in grouped)), _shown(dataset, largest, column)
    alike = tuple((group.size, tuple((row.place, row.figure) for row in group.rows)) for group in shown)
    looked_at = sample.looked_at(read[-1][0] if read else None, len(vectors))
    sample.keep(dataset.output, Kept(looked_at, len(vectors), len(grouped), in_groups, alike))
    return Duplicates(None, len(vectors), threshold, len(grouped), in_groups, shown)


def _sampled(
    dataset: Dataset, within: Subset | None, column: str, sample: Sample
) -> Iterator[tuple[str, npt.NDArray[np.int32], Vectors]]:
    """Part, rows and vectors, until there are enough: the first images of each part of the sample."""
    left = sample.images
    for part, _ in sample.parts:
        wanted, inside = min(left, sample.of_a_part), rows_within(within, part)
        if inside is not None and not len(inside):
            continue
        for batch in replace(dataset, parts=(part,)).batches(["row", column], _A_PART):
            rows = batch["row"].to_numpy()
            vectors, present = vectors_of(batch[column])
            if inside is not None:
                present &= np.isin(rows, inside)
            chosen = np.flatnonzero(present)[:wanted]
            yield part, rows[chosen], unit(vectors[chosen])
            wanted, left = wanted - len(chosen), left - len(chosen)
            if not wanted:
                break
        if not left:
            return


def _again(shown_rows: ShownRows, kept: Kept) -> tuple[DuplicateGroup, ...]:
    """The groups that an earlier report has shown."""
    there = shown_rows.at([place for _, rows in kept.largest for place, _ in rows])
    return tuple(
        DuplicateGroup(size, tuple(replace(there[place], figure=figure) for place, figure in rows if place in there))
        for size, rows in kept.largest
    )


def _near(vectors: Vectors, threshold: float) -> npt.NDArray[np.int64]:
    """int64 [n, 2]: what is near to what. Of a tile's pairs only as many as connect the same are kept."""
    kept = [np.empty((0, 2), np.int64)]
    for start in range(0, len(vectors), _TILE):
        pairs = np.argwhere(vectors[start : start + _TILE] @ vectors[start:].T >= threshold) + start
        first = connect(np.arange(len(vectors)), pairs)
        others = np.flatnonzero(first != np.arange(len(first)))
        kept.append(np.stack([others, first[others]], axis=1))
    return np.concatenate(kept)


def _shown(dataset: Dataset, groups: Sequence[tuple[int, Sequence[Place]]], column: str) -> tuple[DuplicateGroup, ...]:
    """With the rows' embeddings read."""
    read = rows_at(dataset, [place for _, places in groups for place in places], [column])
    shown = []
    for size, places in groups:
        there = [read[place] for place in places if place in read]  # a part may be gone since
        if there:
            vectors = unit(vectors_of(pa.concat_tables([table for _, table in there])[column])[0])
            first, *others = (row for row, _ in there)
            near = sorted(zip((vectors[1:] @ vectors[0]).tolist(), others, strict=True), key=lambda pair: -pair[0])
            shown.append(DuplicateGroup(size, (first, *(replace(row, figure=cosine) for cosine, row in near))))
    return tuple(shown)
