"""What the page shows, as plain values: search results, rows, thresholds. Nothing here knows of HTTP."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ...clipmodel.download import Progress
from ...clipmodel.errors import ImageError
from ...clipmodel.pictures.opening import opened
from ...pipeline.dataset.dataset import Dataset, DatasetModel
from ...pipeline.dataset.labels import Labels
from ...pipeline.dataset.output import Output
from ...pipeline.embedding.dataset_model import load_model
from ...pipeline.errors import UserError
from ...pipeline.job.serve import ServeJob
from ...pipeline.searching.ann import Index, read_card
from ...pipeline.searching.catalogue import Catalogue, catalogue
from ...pipeline.searching.dense import OnBytes, column_of
from ...pipeline.searching.distribution import histogram, sides
from ...pipeline.searching.filters import BusyError
from ...pipeline.searching.numbered_rows import NumberedRows
from ...pipeline.searching.pictures import Pictures
from ...pipeline.searching.query import QueryModel
from ...pipeline.searching.scan import Numbers
from ...pipeline.searching.search import readable
from .command import command
from .copies import Copies
from .downloads import Form, chosen, forms, lines, parquet
from .landscape import Landscape
from .matches import Matches
from .seeing import Eye
from .view import DEEPEST, Query, View

_PIXELS = 64_000_000  # of an uploaded image
_UPLOADS = 2  # that are decoded at the same time
_PATIENCE = 10.0  # seconds that another one waits for these
_SEVERAL = "Several pairs have this key: open the one you mean to see others like it."
_SAMPLES = 8  # rows shown on either side of a threshold


@dataclass
class Site:
    """A dataset and what belongs to it, opened. Thread-safe."""

    job: ServeJob
    dataset: Dataset
    model: DatasetModel
    eye: Eye
    pictures: Pictures
    landscape: Landscape
    _decoding: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_UPLOADS))

    @classmethod
    @contextmanager
    def open(
        cls, job: ServeJob, on_bytes: OnBytes = lambda *_: None, on_download: Progress | None = None
    ) -> Iterator[Site]:
        """Copies what searches need to local disks, as a search does. UserError for what does not fit the dataset."""
        job.check()
        dataset = Dataset.open(job.dataset, job.storage_options).join(job.joins)
        labels = Labels.open(job.labels, dataset) if job.labels is not None else None
        if labels is not None:
            labels.check_fits(dataset)
        numbered = NumberedRows.of(dataset)
        columns = {side: column_of(dataset, side, job.alias) for side in _sides(dataset)}
        index = _index(job, numbered, list(columns.values()))
        queries = QueryModel.of(load_model(dataset, job.alias, job.model, on_download))
        model = dataset.model(job.alias)
        with (
            catalogue(numbered, readable(dataset), f"{model.prefix}similarity", labels) as rows,
            Copies.made(numbered, columns, index, on_bytes) as spaces,  # last: the page opens while it goes on
        ):
            eye = Eye(rows, Matches(queries, rows, spaces))
            yield cls(job, dataset, model, eye, Pictures(dataset.output.storage_options), Landscape(eye))

    @property
    def rows(self) -> Catalogue:
        return self.eye.rows

    @property
    def spaces(self) -> Copies:
        return self.eye.matches.spaces

    def about(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.url,
            "rows": self.rows.rows,
            "model": f"{self.model.variant} ({self.model.weights})",
            "sides": {side: self.spaces[side].among() if self.spaces.ready(side) else None for side in self.spaces},
            "similarity": self._similarity,
            "labels": self.rows.labels() if self.rows.has_labels else None,
            "deepest": DEEPEST,
            "downloads": forms(self.eye),
        }

    def upload(self, image: bytes) -> str:
        """Keep an image to search by; returns the name for `Query.upload`. UserError for what a shard's image could not
        be either: no image, or one that takes too much memory or work. BusyError where others are decoded."""
        query = Query(upload=secrets.token_urlsafe(12))
        if not self._decoding.acquire(timeout=_PATIENCE):
            raise BusyError("the server is busy with other images: try again in a few seconds")
        try:
            _check_pixels(image)
            matches = self.eye.matches
            matches.keep(query, matches.queries.of_image(image, "this file"))
        finally:
            self._decoding.release()
        return query.upload or ""

    def search(self, view: View, start: int, count: int) -> dict[str, Any]:
        """One page of what the view shows. start: from 0."""
        self._check(view)
        query = view.query
        if query.key is not None and len(same := self.rows.of_key(query.key)) > 1:
            rows = self.rows.read(same[start : start + count])
            return {"total": len(same), "exact": True, "hits": [_hit(row) for row in rows], "note": _SEVERAL}
        seen = self.eye.seen(view, min(start + count, DEEPEST))
        positions = seen.positions[start:].tolist()
        scores = [None] * len(positions) if seen.scores is None else seen.scores[start:].tolist()
        hits = [_hit(row, score) for row, score in zip(self.rows.read(positions), scores, strict=True)]
        return {
            "total": seen.total,
            "exact": seen.exact,
            "hits": hits,
            "weak_below": self.eye.matches.weak_below(query, view.side) if view.is_search and hits else None,
            "why_none": None if seen.total else self.eye.why_none(view),
        }

    def _check(self, view: View) -> None:
        if view.side not in self.spaces:
            raise UserError(f"this dataset has no embeddings of {view.side}s")

    def row(self, place: int) -> dict[str, Any]:
        """UserError where there is no such row."""
        rows = self.rows.read([place])
        if not rows:
            raise UserError(f"there is no row {place}")
        return rows[0]

    def hit(self, place: int) -> dict[str, Any]:
        """A row as searches give them. UserError where there is none."""
        return _hit(self.row(place))

    def histogram(self, view: View) -> dict[str, Any]:
        """Of the score that the view's threshold is about, over the rows that meet its condition."""
        self._check(view)
        return asdict(histogram(self.eye.values(view), self.eye.mask(replace(view, at_least=None))))

    def threshold(self, view: View, at: float) -> dict[str, Any]:
        """Counts and rows on either side of a score, and the command that finds those above."""
        self._check(view)
        if not math.isfinite(at):
            raise UserError("the threshold must be a number")
        rounded = f"{at:.4f}"
        both = sides(self.eye.values(view), np.float32(rounded), self.eye.mask(replace(view, at_least=None)), _SAMPLES)
        return {
            "at": rounded,
            "below": both.below,
            "above": both.above,
            "missing": both.missing,
            "just_below": self._hits(both.just_below),
            "just_above": self._hits(both.just_above),
            "command": command(self.job, view, rounded, both.above, self._similarity),
        }

    def map(self, view: View) -> dict[str, Any]:
        self._check(view)
        return self.landscape.points(view)

    def download(self, view: View, form: Form, places: Sequence[int]) -> Iterator[bytes]:
        """The rows at these places, or where there are none all that the view shows."""
        self._check(view)
        seen = chosen(self.eye, view, np.array(places, dtype=np.int64) if places else None)
        return parquet(self.eye, seen) if form == "parquet" else lines(self.eye, seen, form.removesuffix("s"))

    def _hits(self, positions: Numbers) -> list[dict[str, Any]]:
        return [_hit(row) for row in self.rows.read(positions.tolist())]

    @property
    def _similarity(self) -> str:
        return f"{self.model.prefix}similarity"


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
