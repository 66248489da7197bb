"""A map of the embeddings: what a dataset is made of, from a sample of its rows."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...pipeline.records import Vectors
from ...pipeline.searching.plane import Plane, drawn, plane_of
from ...pipeline.searching.scan import Numbers
from ...pipeline.searching.search import Space
from .seeing import Eye
from .view import View

POINTS = 4000
_MOST_LABELS = 11  # with colours of their own; the rest are others
_OTHERS = "other labels"


@dataclass
class Landscape:
    """Each side has one plane, whatever the view: points stay where they are when a filter changes."""

    eye: Eye
    _planes: dict[str, Plane] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def points(self, view: View, count: int = POINTS) -> dict[str, Any]:
        """A sample of the rows that the view's condition and threshold leave, the same whenever it is asked for."""
        space = self.eye.matches.spaces[view.side]
        mask = self.eye.mask(view)
        allowed = space.dense.present if mask is None else space.dense.present & mask
        if view.least_match is not None:
            allowed = allowed & (self.eye.values(view) >= np.float32(view.least_match))
        chosen = np.flatnonzero(allowed)
        places = drawn(chosen, count)
        vectors = np.asarray(space.dense.vectors[places])
        points = self._plane(view.side, space).points(vectors)
        names, labels = self._labels(places)
        rows = self.eye.rows
        return {
            "total": len(chosen),
            "places": places.tolist(),
            "x": _rounded(points[:, 0]),
            "y": _rounded(points[:, 1]),
            "names": names,
            "labels": labels,
            "similarity": _rounded(rows.similarities[places]),
            "match": _rounded(self.eye.matches.scores(view.query, view.side)[places]) if view.is_search else None,
        }

    def _plane(self, side: str, space: Space) -> Plane:
        with self._lock:
            if side not in self._planes:
                vectors = np.asarray(space.dense.vectors[drawn(np.flatnonzero(space.dense.present), POINTS)])
                self._planes[side] = plane_of(vectors)
            return self._planes[side]

    def _labels(self, places: Numbers) -> tuple[list[str] | None, list[int] | None]:
        """The most frequent labels by name, and for each place the number of its label in this list."""
        if not self.eye.rows.has_labels:
            return None, None
        of_places = self.eye.rows.table(places, ["labels.label"])["labels.label"].to_pylist()
        known = [name for name, _ in self.eye.rows.labels()]
        names = known if len(known) <= _MOST_LABELS + 1 else [*known[:_MOST_LABELS], _OTHERS]
        numbers = {name: number for number, name in enumerate(names)}
        return names, [numbers.get(name, len(names) - 1) if name is not None else -1 for name in of_places]


def _rounded(values: npt.NDArray[Any] | Vectors) -> list[float | None]:
    return [None if value != value else round(value, 4) for value in values.tolist()]
