"""Queries as vectors, and how well each row matches them. The last ones are kept: pages, sliders and maps ask again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from ...pipeline.errors import UserError
from ...pipeline.records import Vector, Vectors
from ...pipeline.searching.catalogue import Catalogue, Condition
from ...pipeline.searching.numbered_rows import Mask
from ...pipeline.searching.plane import drawn
from ...pipeline.searching.query import QueryModel
from ...pipeline.searching.scan import Numbers, Scores
from ...pipeline.searching.search import Space
from .copies import Copies
from .view import DEEPEST, Query

_VECTORS = 64
_SIDES = 2
_SCORES = 4  # 40 MB each over ten million rows
_SAMPLE = 4096  # rows that tell what a query scores with rows that have nothing to do with it
_FEWEST = 20  # rows from which that can be told
_SPREADS = 2.0  # standard deviations above their mean, where a match begins to stand out

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class Recent(Generic[K, V]):
    """The values of the last keys that were asked for. Thread-safe; who asks for a value that is being made waits."""

    size: int
    _values: OrderedDict[K, Future[V]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: K, make: Callable[[], V]) -> V:
        with self._lock:
            future, is_new = self._values.get(key, Future()), key not in self._values
            self._put(key, future)
        if is_new:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    if self._values.get(key) is future:  # it may go better the next time
                        del self._values[key]
        return future.result()

    def keep(self, key: K, value: V) -> None:
        future: Future[V] = Future()
        future.set_result(value)
        with self._lock:
            self._put(key, future)

    def _put(self, key: K, future: Future[V]) -> None:
        self._values[key] = future
        self._values.move_to_end(key)
        while len(self._values) > self.size:
            self._values.popitem(last=False)


@dataclass(frozen=True)
class Best:
    """positions, scores: of the best, best first. total: of the rows that can be found."""

    positions: Numbers
    scores: Scores
    total: int


@dataclass(frozen=True)
class Sample:
    """Of one side's rows. vectors: float32 [n, dim]. own: the median similarity of captions to their own images; None
    where no row has one."""

    vectors: Vectors
    own: float | None


@dataclass(frozen=True)
class Matches:
    queries: QueryModel
    rows: Catalogue
    spaces: Copies
    _vectors: Recent[Query, Vector] = field(default_factory=lambda: Recent(_VECTORS))
    _best: Recent[tuple[Query, str, Condition], Best] = field(default_factory=lambda: Recent(_VECTORS))
    _scores: Recent[tuple[Query, str], Scores] = field(default_factory=lambda: Recent(_SCORES))
    _weak: Recent[tuple[Query, str], float | None] = field(default_factory=lambda: Recent(_VECTORS))
    _samples: Recent[str, Sample] = field(default_factory=lambda: Recent(_SIDES))

    def keep(self, query: Query, vector: Vector) -> None:
        self._vectors.keep(query, vector)

    def vector(self, query: Query) -> Vector:
        return self._vectors.get(query, lambda: self._vector_of(query))

    def best(self, query: Query, side: str, condition: Condition, mask: Mask | None) -> Best:
        """The `DEEPEST` best rows that meet the condition, by exact comparison. mask: of that condition."""

        def found() -> Best:
            space = self.spaces[side]
            rows, scores = space.exactly_nearest(self.vector(query), DEEPEST, mask)
            return Best(rows, scores, space.among(mask))

        return self._best.get((query, side, condition), found)

    def scores(self, query: Query, side: str) -> Scores:
        """Of every row, float32 [rows]; NaN for rows that cannot be found."""
        return self._scores.get((query, side), lambda: self.spaces[side].scores(self.vector(query)))

    def weak_below(self, query: Query, side: str) -> float | None:
        """The score below which a match means little; None where nothing tells.

        A text and an image that belong together are as near as captions are to their own images: below the middle
        between that and what rows score that have nothing to do with the query. Two images, or two texts, are always
        near: there, a match has to stand out from the other rows.
        """
        return self._weak.get((query, side), lambda: self._weak_below(query, side))

    def _weak_below(self, query: Query, side: str) -> float | None:
        space = self.spaces[side]
        sample = self._samples.get(side, lambda: self._sample(space))
        scores = sample.vectors @ self.vector(query)
        if len(scores) < _FEWEST:
            return None
        if (query.text is not None) == (side == "text"):
            return float(scores.mean() + _SPREADS * scores.std())
        return None if sample.own is None else (float(scores.mean()) + sample.own) / 2

    def _sample(self, space: Space) -> Sample:
        own = self.rows.similarities[drawn(np.flatnonzero(space.present), _SAMPLE)]
        own = own[np.isfinite(own)]
        return Sample(space.sample(_SAMPLE), float(np.median(own)) if len(own) else None)

    def _vector_of(self, query: Query) -> Vector:
        if query.upload is not None:
            raise UserError("the server has forgotten that image: choose it again")
        if query.text is not None:
            return self.queries.of_text(query.text)
        position = query.place
        if query.key is not None:
            position = next(iter(self.rows.of_key(query.key)), None)
        if position is None:
            raise UserError(f"no pair has the key {query.key}")
        return self._vector_at(position)

    def _vector_at(self, position: int) -> Vector:
        """A row's own image, or where it has none its caption: from the copies, which are quicker to read,
        where there are any."""
        if not 0 <= position < self.rows.rows:
            raise UserError(f"there is no row {position}")
        for side in ("image", "text"):
            if side in self.spaces and (vector := self.spaces[side].vector(position)) is not None:
                return vector
        (row,) = self.rows.read([position])
        raise UserError(
            f"the pair of key {row['key']} has no embedding ({row['error'] or 'it is empty'}): choose another"
        )
