"""A segment of an index: the vectors of some of the dataset's parts, in files of its own. An index grows by segments.

Rows are numbered within the segment, through its parts in their order, whether they have an embedding or not. So a
segment stays true when other parts come before its own, and parts that were made anew since are only passed over.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dataset.dataset import Dataset
from .dense import digest
from .numbered_rows import Mask, NumberedRows
from .scan import Numbers, Scores

KEPT = 100  # nearest rows of each query: more than are wanted, for equal ones, and for those that go later


@dataclass(frozen=True)
class Nearest:
    """The exact nearest rows of the queries that recall is measured with, best first."""

    rows: Numbers  # [queries, KEPT]; -1 where there are fewer
    scores: Scores  # [queries, KEPT]; -inf there

    @classmethod
    def none(cls, queries: int) -> Nearest:
        return cls(np.full((queries, KEPT), -1, np.int64), np.full((queries, KEPT), -np.inf, np.float32))

    def with_more(self, rows: Numbers, scores: Scores) -> Nearest:
        """rows, scores: [queries, n], in any order."""
        rows, scores = np.hstack([self.rows, rows]), np.hstack([self.scores, scores])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
        return Nearest(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))


@dataclass(frozen=True)
class Contents:
    """What a segment holds. Its file is written last: then the segment is there."""

    parts: tuple[str, ...]
    stamps: Numbers  # int64 [parts]: of each part when it was read
    starts: Numbers  # int64 [parts + 1]: the number of each part's first row, and of rows in all
    present: npt.NDArray[np.uint8]  # a bit for each row that has a vector
    cells: Numbers  # int64 [nlist]: vectors in each; none for a graph
    nearest: Nearest

    @property
    def name(self) -> str:
        return digest(*self.parts, *map(str, self.stamps.tolist()))

    @property
    def rows(self) -> int:
        return int(self.starts[-1])

    def rows_present(self) -> Mask:
        return np.unpackbits(self.present, count=self.rows).view(np.bool_)

    def to_bytes(self) -> bytes:
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "nearest"}
        with io.BytesIO() as file:
            np.savez_compressed(
                file,
                **{**plain, "parts": np.array(self.parts, dtype=np.str_)},
                near_rows=self.nearest.rows,
                near_scores=self.nearest.scores,
            )
            return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Contents:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return cls(
                tuple(file["parts"].tolist()),
                file["stamps"],
                file["starts"],
                file["present"],
                file["cells"],
                Nearest(file["near_rows"], file["near_scores"]),
            )


@dataclass(frozen=True, eq=False)
class Placed:
    """A segment's rows as rows of a dataset, or of another segment. places: int64 [parts], the position there of each
    part's first row; -1: not there."""

    contents: Contents
    places: Numbers

    def positions(self, rows: Numbers) -> Numbers:
        """Of some rows of the segment; -1 for those that are not there, and for -1. Keeps the shape."""
        part = np.searchsorted(self.contents.starts, np.maximum(rows, 0), side="right") - 1
        there = (rows >= 0) & (self.places[part] >= 0)
        return np.where(there, self.places[part] + rows - self.contents.starts[part], -1)

    def is_whole(self) -> bool:
        """Whether all its rows are there."""
        return bool((self.places >= 0).all())

    def rows(self) -> int:
        """How many of its rows are there."""
        return int(np.diff(self.contents.starts)[self.places >= 0].sum())

    def vectors(self) -> int:
        """How many of its vectors are there."""
        present = self.contents.rows_present()
        return int(present.sum() if self.is_whole() else present[self.allowed(None)].sum())

    def allowed(self, mask: Mask | None) -> Mask:
        """The rows of the segment that are there, and in the mask: bool [rows of the segment]."""
        allowed = np.zeros(self.contents.rows, dtype=np.bool_)
        starts = self.contents.starts
        for start, stop, place in zip(starts, starts[1:], self.places, strict=False):
            if place >= 0:
                allowed[start:stop] = True if mask is None else mask[place : place + stop - start]
        return allowed

    def holds(self, position: int) -> bool:
        """Whether the row at a position there has a vector here."""
        there = np.flatnonzero((self.places >= 0) & (self.places <= position))
        if not len(there):
            return False
        part = there[np.argmax(self.places[there])]
        row = int(self.contents.starts[part] + position - self.places[part])
        inside = row < self.contents.starts[part + 1]
        return bool(inside and self.contents.present[row >> 3] >> (7 - (row & 7)) & 1)

    def spread(self, into: Mask) -> None:
        """Mark the dataset's rows that have a vector here."""
        present, starts = self.contents.rows_present(), self.contents.starts
        for start, stop, place in zip(starts, starts[1:], self.places, strict=False):
            if place >= 0:
                into[place : place + stop - start] = present[start:stop]


def placed(contents: Iterable[Contents], numbered: NumberedRows) -> list[Placed]:
    """The segments that have parts of the dataset as they are, and where. A part that several have is the largest
    one's: so a merged segment stands for those that it was made of."""
    dataset = numbered.dataset
    positions = dict(zip(zip(dataset.parts, dataset.stamps, strict=True), numbered.starts.tolist(), strict=False))
    segments = []
    for one in sorted(contents, key=lambda one: (-one.rows, one.name)):
        keys = zip(one.parts, one.stamps.tolist(), strict=True)
        places = np.array([positions.pop(key, -1) for key in keys], dtype=np.int64)
        if (places >= 0).any():
            segments.append(Placed(one, places))
    return segments


def lacking(segments: Sequence[Placed], dataset: Dataset) -> list[int]:
    """The numbers of the dataset's parts that no segment has as they are."""
    have: set[tuple[str, Any]] = set()
    for segment in segments:
        have |= set(zip(segment.contents.parts, segment.contents.stamps.tolist(), strict=True))
    return [number for number, key in enumerate(zip(dataset.parts, dataset.stamps, strict=True)) if key not in have]
