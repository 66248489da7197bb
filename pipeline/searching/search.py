"""Search a dataset: which images, or which captions, fit a text, an image or another pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
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
from ..records import Vector, Vectors
from .ann import Index
from .array_runs import Runs, Stored
from .dense import Dense, OnBytes, column_of, dense, existing, silent
from .numbered_rows import Mask, NumberedRows
from .part_vectors import PartVectors
from .plane import drawn
from .query import QueryModel, of_row, read_image
from .scan import Numbers, Scores, best, every, highest, similarities

_NAMED = 5  # of several pairs of one key
_FEW = 50_000  # rows that a search compares without asking an index, from the copy
_FEW_TO_READ = 1_000  # the same where they are read from the parts


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


def search(job: SearchJob, on_bytes: OnBytes = silent, on_download: Progress | None = None) -> Found:
    """The `k` rows whose embeddings are nearest to the query, best first; exact unless the job names an index.

    Of a pair (`key` or `place`), others are found, not itself.

    The first search of a dataset without an index copies its embeddings to a local disk, of which `on_bytes` is told.
    UserError for a query, a condition or an index that does not fit the dataset.
    """
    job.check()
    dataset = Dataset.open(job.dataset, job.storage_options).join(job.joins)
    column = column_of(dataset, job.side, job.alias)
    numbered = NumberedRows.of(dataset)
    index = Index.open(job.index, numbered, column) if job.index is not None else None
    mask = _mask(job, numbered)
    itself = _position(job, numbered)
    query = _query(job, numbered, itself, on_download)
    space = Space.of(numbered, column, index, on_bytes)
    rows, scores = space.nearest(query, job.k + (itself is not None), mask)
    wanted = (rows != itself) & (scores >= np.float32(-1 if job.threshold is None else job.threshold))
    others = np.flatnonzero(wanted)[: job.k]
    hits = space.hits(rows[others], scores[others])
    return Found(job.query, job.side, space.among(mask, itself), space.is_exact(mask), hits)


@dataclass(frozen=True)
class Space:
    """One side of a dataset, ready to be searched again and again. copy: gives the copy of its embeddings, which is
    made where it is not there; with an index most searches do without."""

    numbered: NumberedRows
    column: str
    copy: Callable[[], Dense]
    index: Index | None = None

    @classmethod
    def of(cls, numbered: NumberedRows, column: str, index: Index | None = None, on_bytes: OnBytes = silent) -> Space:
        return cls(numbered, column, lambda: dense(numbered, column, on_bytes), index)

    @cached_property
    def dense(self) -> Dense:
        return self.copy()

    @cached_property
    def present(self) -> Mask:
        """The rows that can be found: bool [rows]."""
        return self.dense.present if self.index is None or self.index.is_earlier else self.index.present

    def is_exact(self, mask: Mask | None = None) -> bool:
        """Whether searches among the rows of a mask are exact: so few are left that comparing them all is quick."""
        return self.index is None or (mask is not None and self.among(mask) <= self._few)

    def nearest(self, query: Vector, k: int, mask: Mask | None = None) -> tuple[Numbers, Scores]:
        """Positions and scores, best first, of equal scores the earlier row."""
        if self.index is None:
            return self.exactly_nearest(query, k, mask)
        if mask is None or not self.is_exact(mask):
            rows, scores = self.index.nearest(self._vectors, query, k, mask)
        else:
            few = np.flatnonzero(mask & self.present)
            rows, scores = highest(few, similarities(self._vectors[few], query[None])[:, 0], k)
        return rows, np.clip(scores, -1, 1)  # vectors stored as float16 are a little longer than one, or shorter

    def exactly_nearest(self, query: Vector, k: int, mask: Mask | None = None) -> tuple[Numbers, Scores]:
        copy = self.dense
        allowed = copy.present if mask is None else copy.present & mask
        rows, scores = best(copy.vectors, query[None], k, allowed, copy.longest)[0]
        return rows, np.clip(scores, -1, 1)

    def vector(self, position: int) -> Vector | None:
        """The vector of a row, float32 [dim]; None where it has none."""
        if not self._has_vector(position):
            return None
        return np.asarray(self._vectors[np.array([position])][0], dtype=np.float32)

    def sample(self, count: int) -> Vectors:
        """At most `count` vectors at random, float32 [n, dim], the same each time. Of an index, those held out for
        measuring, unless there is a copy to draw them from."""
        if self.index is not None and len(self.index.sample) and not self._is_copied():
            return self.index.sample[:count]
        return self.dense.vectors[drawn(np.flatnonzero(self.dense.present), count)].astype(np.float32)

    def scores(self, query: Vector) -> Scores:
        """Of every row, float32 [rows]; NaN for rows that cannot be found."""
        return np.clip(every(self.dense.vectors, query, self.dense.present), -1, 1)

    def among(self, mask: Mask | None = None, itself: int | None = None) -> int:
        """Rows that can be found; itself: the position of a row that is not looked for."""
        is_one = itself is not None and self._has_vector(itself) and (mask is None or bool(mask[itself]))
        if mask is None and self.index is not None:
            return self.index.card.vectors - is_one
        return int((self.present if mask is None else self.present & mask).sum()) - is_one

    def hits(self, rows: Numbers, scores: Scores) -> list[Hit]:
        read = self.numbered.read(rows.tolist(), readable(self.numbered.dataset))
        ranked = zip(scores.tolist(), rows.tolist(), read, strict=True)
        return [Hit(rank, score, position, row) for rank, (score, position, row) in enumerate(ranked, start=1)]

    @property
    def _vectors(self) -> Stored | Runs | PartVectors:
        """Where an index's candidates are compared: in the copy, where there is one, else in the parts."""
        return self.dense.vectors if self._is_copied() else self._at_first

    def _has_vector(self, position: int) -> bool:
        if self.index is None or self.index.is_earlier:
            return bool(self.present[position])
        return self.index.holds(position)

    def _is_copied(self) -> bool:
        return self.index is None or "dense" in vars(self)

    @cached_property
    def _at_first(self) -> Stored | Runs | PartVectors:
        copy = existing(self.numbered, self.column)
        return PartVectors(self.numbered, self.column) if copy is None else copy.vectors

    @property
    def _few(self) -> int:
        return _FEW_TO_READ if isinstance(self._vectors, PartVectors) else _FEW


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
    model = QueryModel.of(load_model(numbered.dataset, job.alias, job.model, on_download))
    if image is not None:
        return model.of_image(image, job.image or "")
    return model.of_text(job.text or "")
