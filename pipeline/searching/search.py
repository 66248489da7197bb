"""Search a dataset: which images, or which captions, fit a text, an image or another pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.types as kinds

from ...clipmodel.download import Progress
from ..choices import Side
from ..dataset.dataset import Dataset
from ..dataset.subset import Subset
from ..embedding.dataset_model import load_model
from ..errors import InputError
from ..job.readable import Result
from ..job.search import SearchJob
from ..records import Vector
from .ann import Index
from .dense import Dense, OnBytes, column_of, dense
from .numbered_rows import Mask, NumberedRows
from .query import of_image, of_row, of_text, read_image
from .scan import Numbers, Scores, best, every

_NAMED = 5  # of several pairs of one key


@dataclass(frozen=True)
class Hit:
    """place: the row's position in the dataset, from 0. score: cosine of the query and the stored embedding."""

    rank: int  # from 1
    score: float
    place: int
    row: Mapping[str, Any]  # its columns, embeddings left out


@dataclass(frozen=True)
class Found(Result):
    """What `search` returns."""

    query: str
    side: Side
    among: int  # rows that could have been found
    exact: bool
    hits: Sequence[Hit]

    def as_json(self) -> dict[str, Any]:
        """Infinite numbers and NaN become None: JSON has no word for them."""
        hits = [{"rank": hit.rank, "score": hit.score, **hit.row} for hit in self.hits]
        plain = [{name: None if _is_not_finite(value) else value for name, value in hit.items()} for hit in hits]
        return {**asdict(self), "hits": plain}


def search(job: SearchJob, on_bytes: OnBytes = lambda *_: None, on_download: Progress | None = None) -> Found:
    """The `k` rows whose embeddings are nearest to the query, best first; exact unless the job names an index.

    Of a pair (`key` or `place`), others are found, not itself.

    The first search of a dataset copies its embeddings to a local disk, of which `on_bytes` is told. UserError for a
    query, a condition or an index that does not fit the dataset.
    """
    job.check()
    dataset = Dataset.open(job.dataset, job.storage_options)
    column = column_of(dataset, job.side, job.alias)
    numbered = NumberedRows.of(dataset)
    index = Index.open(job.index, numbered, column) if job.index is not None else None
    mask = _mask(job, numbered)
    itself = _position(job, numbered)
    query = _query(job, numbered, itself, on_download)
    space = Space(numbered, dense(numbered, column, on_bytes), index)
    rows, scores = space.nearest(query, job.k + (itself is not None), mask)
    wanted = (rows != itself) & (scores >= np.float32(-1 if job.threshold is None else job.threshold))
    others = np.flatnonzero(wanted)[: job.k]
    hits = space.hits(rows[others], scores[others])
    exact = index is None or mask is not None
    among = space.among(mask, itself)
    return Found(job.query, job.side, among, exact, hits)


@dataclass(frozen=True)
class Space:
    """One side of a dataset, ready to be searched again and again."""

    numbered: NumberedRows
    dense: Dense
    index: Index | None = None

    def nearest(self, query: Vector, k: int, mask: Mask | None = None) -> tuple[Numbers, Scores]:
        """Positions and scores, best first, of equal scores the earlier row. With a mask the search is exact: an index
        cannot tell how far to look for rows that are left."""
        if self.index is None or mask is not None:
            return self.exactly_nearest(query, k, mask)
        rows, scores = self.index.nearest(self.dense.vectors, query, k)
        return rows, np.clip(scores, -1, 1)  # vectors stored as float16 are a little longer than one, or shorter

    def exactly_nearest(self, query: Vector, k: int, mask: Mask | None = None) -> tuple[Numbers, Scores]:
        copy = self.dense
        rows, scores = best(copy.vectors, query[None], k, self._allowed(mask), copy.longest)[0]
        return rows, np.clip(scores, -1, 1)

    def scores(self, query: Vector) -> Scores:
        """Of every row, float32 [rows]; NaN for rows that cannot be found."""
        return np.clip(every(self.dense.vectors, query, self.dense.present), -1, 1)

    def among(self, mask: Mask | None = None, itself: int | None = None) -> int:
        """Rows that can be found; itself: the position of a row that is not looked for."""
        allowed = self._allowed(mask)
        return int(allowed.sum()) - bool(itself is not None and allowed[itself])

    def hits(self, rows: Numbers, scores: Scores) -> list[Hit]:
        read = self.numbered.read(rows.tolist(), readable(self.numbered.dataset))
        ranked = zip(scores.tolist(), rows.tolist(), read, strict=True)
        return [Hit(rank, score, position, row) for rank, (score, position, row) in enumerate(ranked, start=1)]

    def _allowed(self, mask: Mask | None) -> Mask:
        return self.dense.present if mask is None else self.dense.present & mask


def readable(dataset: Dataset) -> list[str]:
    """The columns that people read: all but the embeddings."""
    return [field.name for field in dataset.schema if not kinds.is_fixed_size_list(field.type)]


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _mask(job: SearchJob, numbered: NumberedRows) -> Mask | None:
    if job.where is None and job.within is None:
        return None
    return numbered.mask(job.where, Subset.within(job.within, numbered.dataset))


def _position(job: SearchJob, numbered: NumberedRows) -> int | None:
    """Of the pair that `--key` or `--place` names. InputError where there is none, or several have the key."""
    if job.place is not None and job.place >= len(numbered):
        raise InputError(f"--place {job.place}: {job.dataset} has {len(numbered):,} rows, and the first is 0")
    if job.key is None:
        return job.place
    positions = numbered.of_key(job.key)
    if not positions:
        raise InputError(f"{job.dataset}: no pair has the key {job.key}")
    if len(positions) > 1:
        rows = numbered.read(positions[:_NAMED], ["shard", "row"])
        named = [f"{place} (row {row['row']} of {row['shard']})" for place, row in zip(positions, rows, strict=False)]
        more = ", …" if len(positions) > _NAMED else ""
        raise InputError(
            f"{job.dataset}: {len(positions):,} pairs have the key {job.key}: choose one of them with --place: "
            f"{', '.join(named)}{more}"
        )
    return positions[0]


def _query(job: SearchJob, numbered: NumberedRows, itself: int | None, on_download: Progress | None) -> Vector:
    if itself is not None:
        return of_row(numbered, numbered.dataset.model(job.alias), itself)
    image = read_image(job.image, job.storage_options) if job.image is not None else None
    loaded = load_model(numbered.dataset, job.alias, job.model, on_download)
    if image is not None:
        return of_image(loaded, image, job.image or "")
    return of_text(loaded, job.text or "")
