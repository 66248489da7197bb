"""The rows of a dataset in portions, for workers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.narrow_file import NarrowFile

MOST = 1 << 19  # rows of a run of the narrow table, about
_LEAST, _RUNS = 1 << 17, 32  # rows of a run, about, and how many runs there should be


@dataclass(frozen=True)
class Run:
    """Parts that are worked through together. Cheap to send to workers."""

    parts: tuple[str, ...]
    sizes: tuple[int, ...]  # of the parts, in bytes
    stamps: tuple[int, ...]
    narrow: tuple[NarrowFile, ...] = ()  # where the narrow table has their rows; none where the parts are read

    @classmethod
    def of_file(cls, file: NarrowFile) -> Run:
        return cls(file.parts, file.sizes, file.stamps, (file,))

    def in_parts(self, wanted: Collection[str]) -> Run:
        """Some of the parts, to be read themselves."""
        facts = zip(self.parts, self.sizes, self.stamps, strict=True)
        return Run(*zip(*((part, size, stamp) for part, size, stamp in facts if part in wanted), strict=True))

    def of(self, dataset: Dataset) -> Dataset:
        """The dataset, of these parts alone."""
        return replace(dataset, parts=self.parts, sizes=self.sizes, stamps=self.stamps, narrow=self.narrow)


def runs_of(dataset: Dataset, least: int | None = None) -> list[Run]:
    """All parts of a dataset: those in the narrow table as they lie there, then the others. least: rows of a run of the
    narrow table, where there are as many."""
    rows = sum(file.rows for file in dataset.narrow)
    most = max(least or _LEAST, min(MOST, rows // _RUNS))
    runs = [run for file in dataset.narrow for run in _of_file(file, most)]
    in_table = {part for run in runs for part in run.parts}
    others = dataset.only([part for part in dataset.parts if part not in in_table])
    return [*runs, *(Run(others.parts[at], others.sizes[at], others.stamps[at]) for at in groups_of(len(others.parts)))]


def groups_of(parts: int) -> list[slice]:
    """A connection costs more than a small part, so some share one."""
    size = min(16, 1 + parts // 64)
    return [slice(start, start + size) for start in range(0, parts, size)]


def _of_file(file: NarrowFile, rows: int) -> Iterator[Run]:
    """Runs of about so many rows, all alike."""
    starts, count = np.asarray(file.starts), max(1, round(file.rows / rows))
    edges = np.searchsorted(starts, np.linspace(0, file.rows, count + 1)[1:-1] + starts[0])
    for first, stop in pairwise(dict.fromkeys([0, *edges.tolist(), len(file.parts)])):
        yield Run.of_file(file.between(first, stop))
