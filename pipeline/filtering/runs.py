"""The rows of a dataset in portions, for workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.narrow_file import NarrowFile

_MOST, _LEAST, _RUNS = 1 << 19, 1 << 16, 32  # rows of a run of the narrow table, and how many runs there should be


@dataclass(frozen=True)
class Run:
    """Parts that are worked through together. Cheap to send to workers."""

    parts: tuple[str, ...]
    sizes: tuple[int, ...]  # of the parts, in bytes
    stamps: tuple[int, ...]
    narrow: tuple[NarrowFile, ...] = ()  # where the narrow table has their rows; none where the parts are read

    def of(self, dataset: Dataset) -> Dataset:
        """The dataset, of these parts alone."""
        return replace(dataset, parts=self.parts, sizes=self.sizes, stamps=self.stamps, narrow=self.narrow)


def runs_of(dataset: Dataset) -> list[Run]:
    """All parts of a dataset: those in the narrow table as they lie there, then the others."""
    runs = [run for file in dataset.narrow for run in _of_file(file, sum(file.rows for file in dataset.narrow))]
    in_table = {part for run in runs for part in run.parts}
    others = dataset.only([part for part in dataset.parts if part not in in_table])
    return [*runs, *(Run(others.parts[at], others.sizes[at], others.stamps[at]) for at in groups_of(len(others.parts)))]


def groups_of(parts: int) -> list[slice]:
    """A connection costs more than a small part, so some share one."""
    size = min(16, 1 + parts // 64)
    return [slice(start, start + size) for start in range(0, parts, size)]


def _of_file(file: NarrowFile, rows: int) -> Iterator[Run]:
    most, starts, first = max(_LEAST, min(_MOST, rows // _RUNS)), np.asarray(file.starts), 0
    while first < len(file.parts):
        stop = max(first + 1, int(np.searchsorted(starts, starts[first] + most, side="right")) - 1)
        piece = file.between(first, stop)
        yield Run(piece.parts, piece.sizes, piece.stamps, (piece,))
        first = stop
