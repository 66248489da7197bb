"""Rows that lie in a file in another order than they are numbered: in runs, each of which is in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[Any]  # float16 or float32 [n, dim]


@dataclass(frozen=True)
class Runs:
    """Indexed as an array [rows, dim] is: by a slice of step 1, by a position, or by an array of positions.

    stored: [rows in the file, dim]. starts: int64 [runs + 1], the position of each run's first row, and the number of
    rows in all. places: int64 [runs], where that row lies in `stored`.
    """

    stored: Stored
    starts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.stored.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.dtype

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, key: Any) -> Stored:
        if not isinstance(key, slice):
            run = np.searchsorted(self.starts, key, side="right") - 1
            chosen: Stored = self.stored[self.places[run] + key - self.starts[run]]
            return chosen
        start, stop, _ = key.indices(len(self))
        if stop <= start:
            return self.stored[:0]
        first, last = np.searchsorted(self.starts, [start, stop - 1], side="right") - 1
        pieces = [self._piece(run, start, stop) for run in range(int(first), int(last) + 1)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Stored:
        return np.asarray(self[:], dtype=dtype)

    def _piece(self, run: int, start: int, stop: int) -> Stored:
        """What a run has of the rows from `start` to `stop`."""
        begin, end = self.starts[run : run + 2]
        shift = self.places[run] - begin
        return self.stored[max(start, begin) + shift : min(stop, end) + shift]


def in_order(stored: Stored, places: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Stored | Runs:
    """The rows of parts, one part after the other: part i has `rows[i]` rows, from `places[i]` on in `stored`. An array
    where they follow each other there, too."""
    some = rows > 0
    places, rows = places[some], rows[some]
    if not len(places):
        return stored[:0]
    first = np.flatnonzero(np.diff(places, prepend=-1) != np.concatenate([[0], rows[:-1]]))
    if len(first) == 1:
        return stored[places[0] : places[0] + rows.sum()]
    starts = np.concatenate([[0], np.cumsum(rows)])
    return Runs(stored, np.append(starts[first], starts[-1]), places[first])
