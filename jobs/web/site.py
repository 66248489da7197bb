"""What the page shows, as plain values: search results, rows, thresholds. Nothing here knows of HTTP."""

from __future__ import annotations

import math
import secrets
import shlex
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from ...clipmodel.download import Progress
from ...clipmodel.errors import ImageError
from ...clipmodel.pictures.opening import opened
from ...clipmodel.weights import Loaded
from ...pipeline.dataset.dataset import Dataset, DatasetModel
from ...pipeline.dataset.labels import Labels
from ...pipeline.dataset.output import Output
from ...pipeline.embedding.dataset_model import load_model
from ...pipeline.errors import UserError
from ...pipeline.job.serve import ServeJob
from ...pipeline.records import Vector
from ...pipeline.searching.ann import Index, read_card
from ...pipeline.searching.catalogue import Catalogue, Condition, catalogue
from ...pipeline.searching.dense import OnBytes, column_of, dense
from ...pipeline.searching.filters import BusyError
from ...pipeline.searching.numbered_rows import NumberedRows
from ...pipeline.searching.pictures import Pictures
from ...pipeline.searching.query import of_image, of_row, of_text
from ...pipeline.searching.scan import Numbers
from ...pipeline.searching.search import Space, readable

DEEPEST = 2000  # results that can be paged through
_QUERIES = 64  # vectors of the last queries in memory
_PIXELS = 64_000_000  # of an uploaded image
_UPLOADS = 2  # that are decoded at the same time
_PATIENCE = 10.0  # seconds that another one waits for these
_SEVERAL = "Several pairs have this key: open the one you mean to see others like it."
_SAMPLES = 8  # rows shown on either side of a threshold


@dataclass(frozen=True)
class Query:
    """What to search for: a text, a key, a place (the position of a row) or an upload (as `Site.upload` named it). All
    None: browse."""

    text: str | None = None
    key: str | None = None
    place: int | None = None
    upload: str | None = None


@dataclass
class Site:
    """A dataset and what belongs to it, opened. Thread-safe."""

    job: ServeJob
    dataset: Dataset
    model: DatasetModel
    loaded: Loaded
    rows: Catalogue
    pictures: Pictures
    spaces: Mapping[str, Space]  # by side
    _vectors: OrderedDict[Query, Vector] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _decoding: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_UPLOADS))

    @classmethod
    @contextmanager
    def open(
        cls, job: ServeJob, on_bytes: OnBytes = lambda *_: None, on_download: Progress | None = None
    ) -> Iterator[Site]:
        """Copies what searches need to local disks, as a search does. UserError for what does not fit the dataset."""
        job.check()
        dataset = Dataset.open(job.dataset, job.storage_options)
        labels = Labels.open(job.labels, dataset) if job.labels is not None else None
        if labels is not None:
            labels.check_fits(dataset)
        numbered = NumberedRows.of(dataset)
        columns = {side: column_of(dataset, side, job.alias) for side in _sides(dataset)}
        index = _index(job, numbered, list(columns.values()))
        loaded = load_model(dataset, job.alias, job.model, on_download)
        spaces = {
            side: Space(
                numbered, dense(numbered, column, on_bytes), index if index and index.card.column == column else None
            )
            for side, column in columns.items()
        }
        model = dataset.model(job.alias)
        with catalogue(numbered, readable(dataset), f"{model.prefix}similarity", labels) as rows:
            pictures = Pictures(dataset.output.storage_options)
            yield cls(job, dataset, model, loaded, rows, pictures, spaces)

    def about(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.url,
            "rows": self.rows.rows,
            "model": f"{self.model.variant} ({self.model.weights})",
            "sides": {side: space.among() for side, space in self.spaces.items()},
            "similarity": self._similarity,
            "labels": self.rows.labels() if self.rows.has_labels else None,
            "deepest": DEEPEST,
        }

    def upload(self, image: bytes) -> str:
        """Keep an image to search by; returns the name for `Query.upload`. UserError for what a shard's image could not
        be either: no image, or one that takes too much memory or work. BusyError where others are decoded."""
        query = Query(upload=secrets.token_urlsafe(12))
        if not self._decoding.acquire(timeout=_PATIENCE):
            raise BusyError("the server is busy with other images: try again in a few seconds")
        try:
            _check_pixels(image)
            self._keep(query, of_image(self.loaded, image, "this file"))
        finally:
            self._decoding.release()
        return query.upload or ""

    def search(self, query: Query, side: str, condition: Condition, start: int, count: int) -> dict[str, Any]:
        """One page of results, best first; without a query, of the rows in the dataset's order. start: from 0."""
        if side not in self.spaces:
            raise UserError(f"this dataset has no embeddings of {side}s")
        if query == Query():
            rows = self.rows.page(condition, start, count)
            return {"total": self.rows.count(condition), "exact": True, "hits": [_hit(row) for row in rows]}
        if query.key is not None and len(same := self.rows.of_key(query.key)) > 1:
            rows = self.rows.read(same[start : start + count])
            return {"total": len(same), "exact": True, "hits": [_hit(row) for row in rows], "note": _SEVERAL}
        space, vector = self.spaces[side], self._vector(query)
        mask = None if condition == Condition() else self.rows.mask(condition)
        wanted = min(start + count, DEEPEST)
        positions, scores = space.nearest(vector, wanted, mask)
        total = space.among(mask) if len(positions) == wanted else len(positions)  # those of NaN are never found
        rows = self.rows.read(positions[start:].tolist())
        hits = [_hit(row, score) for row, score in zip(rows, scores[start:].tolist(), strict=True)]
        return {"total": total, "exact": space.index is None or mask is not None, "hits": hits}

    def row(self, place: int) -> dict[str, Any]:
        """UserError where there is no such row."""
        rows = self.rows.read([place])
        if not rows:
            raise UserError(f"there is no row {place}")
        return rows[0]

    def histogram(self, condition: Condition) -> dict[str, Any]:
        return asdict(self.rows.histogram(condition))

    def threshold(self, at: float, condition: Condition) -> dict[str, Any]:
        """Counts and rows on either side of a similarity, and the command that keeps those above."""
        if not math.isfinite(at):
            raise UserError("the threshold must be a number")
        rounded = f"{at:.4f}"
        sides = self.rows.sides(float(rounded), condition, _SAMPLES)
        return {
            "at": rounded,
            "below": sides.below,
            "above": sides.above,
            "missing": sides.missing,
            "just_below": self._hits(sides.just_below),
            "just_above": self._hits(sides.just_above),
            "command": self._command(condition, rounded),
        }

    def _hits(self, positions: Numbers) -> list[dict[str, Any]]:
        return [_hit(row) for row in self.rows.read(positions.tolist())]

    @property
    def _similarity(self) -> str:
        return f"{self.model.prefix}similarity"

    def _command(self, condition: Condition, at: str) -> str:
        labels = ["--labels", self.job.labels] if condition.label is not None and self.job.labels else []
        words = [*condition.options(), *labels, "--where", f"{self._similarity} >= {at}"]
        return shlex.join(["clipmill", "filter", self.dataset.url, *words, "-o", "subset/"])

    def _vector(self, query: Query) -> Vector:
        with self._lock:
            if query in self._vectors:
                self._vectors.move_to_end(query)
                return self._vectors[query]
        vector = self._vector_of(query)
        self._keep(query, vector)
        return vector

    def _vector_of(self, query: Query) -> Vector:
        numbered = next(iter(self.spaces.values())).numbered
        if query.upload is not None:
            raise UserError("the server has forgotten that image: choose it again")
        if query.text is not None:
            return of_text(self.loaded, query.text)
        position = query.place
        if query.key is not None:
            position = next(iter(self.rows.of_key(query.key)), None)
        if position is None:
            raise UserError(f"no pair has the key {query.key}")
        self.row(position)  # refuses a position that no row has
        return of_row(numbered, self.model, position)

    def _keep(self, query: Query, vector: Vector) -> None:
        with self._lock:
            self._vectors[query] = vector
            while len(self._vectors) > _QUERIES:
                self._vectors.popitem(last=False)


def _check_pixels(image: bytes) -> None:
    try:
        with opened(image) as picture:
            width, height = picture.image.size
    except ImageError as error:
        raise UserError(f"this file cannot be used: {error}") from error
    if width * height > _PIXELS:
        raise UserError(
            f"this image has {width * height / 1e6:,.0f} million pixels: use one of {_PIXELS / 1e6:,.0f} at most"
        )


def _sides(dataset: Dataset) -> list[str]:
    return [sides.removesuffix("s") for sides in dataset.settings.embeds.split(" and ")]


def _index(job: ServeJob, numbered: NumberedRows, columns: list[str]) -> Index | None:
    """The index that the job names, of whichever column it was made; None where it names none."""
    if job.index is None:
        return None
    card = read_card(Output.at(job.index, job.storage_options))
    column = card.column if card is not None and card.column in columns else columns[0]
    return Index.open(job.index, numbered, column)


def _hit(row: Mapping[str, Any], score: float | None = None) -> dict[str, Any]:
    return {"score": score, "row": {name: _plain(value) for name, value in row.items()}}


def _plain(value: Any) -> Any:
    """A value that JSON and JavaScript can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
