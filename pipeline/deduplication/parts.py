"""What removing duplicates does to each part of a dataset: its vectors into cells, its best rows into the subset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset, vectors_of
from ..dataset.output import Output
from ..dataset.subset import IDENTITY, Subset, rows_within, write_subset_part
from ..records import Vectors
from . import kmeans
from .cells import CellWriter, record_type
from .components import Ids

PART = 32  # bits of a row's id below its part's number; a row's own number is an int32
_RUNS = 1000  # of parts, at most: every cell is read from a file or more of each

Numbered = tuple[int, str]  # a part's number in the dataset, from 0, and its name
Run = tuple[Numbered, ...]


def runs_of(dataset: Dataset) -> list[Run]:
    """The parts, divided into runs that one worker goes through."""
    numbered = list(enumerate(dataset.parts))
    size = -(-len(numbered) // _RUNS)
    return [tuple(numbered[start : start + size]) for start in range(0, len(numbered), size)]


@dataclass(frozen=True)
class Candidates:
    """The rows that may be near duplicates: embedded, within the subset, and no exact copies of better ones."""

    dataset: Dataset
    column: str  # of embeddings
    output: Output
    left_out: tuple[str, ...]  # files with ids that are no candidates: of exact copies, say
    within: Subset | None

    @property
    def record(self) -> np.dtype[np.void]:
        return record_type(self.dataset.schema.field(self.column).type.list_size, self.dataset.settings.embedding_type)

    def of(self, number: int, part: str) -> Iterator[tuple[Ids, Vectors]]:
        """The candidates' ids, int64 [n], and their vectors, float32 [n, dim] of length one."""
        left_out = np.concatenate([_ids(self.output, name, number) for name in self.left_out])
        inside = rows_within(self.within, part)
        for batch in replace(self.dataset, parts=(part,)).batches(["row", "error", self.column]):
            rows = batch["row"].to_numpy().astype(np.int64)
            vectors, present = vectors_of(batch[self.column])
            present &= batch["error"].is_null().to_numpy(zero_copy_only=False)
            present &= ~np.isin(rows, left_out)
            if inside is not None:
                present &= np.isin(rows, inside)
            yield (number << PART) + rows[present], kmeans.unit(vectors[present])


@dataclass(frozen=True)
class AssignRun:
    """Writes a run's candidates to files in order of their cells."""

    candidates: Candidates
    centroids: Vectors  # float32 [cells, dim]
    probes: int
    prefix: str  # of the files' names

    def name_of(self, run: Run) -> str:
        return f"{self.prefix}run-{run[0][0]:06d}"

    def __call__(self, run: Run) -> None:
        writer = CellWriter(self.candidates.output, self.name_of(run), len(self.centroids), self.candidates.record)
        for number, part in run:
            for ids, vectors in self.candidates.of(number, part):
                writer.add(ids, vectors, kmeans.assign(vectors, self.centroids, self.probes)[0])
        writer.finish()


@dataclass(frozen=True)
class WritePart:
    """Writes the rows of a part that stay."""

    dataset: Dataset
    output: Output
    dropped: str  # file of ids
    within: Subset | None

    def __call__(self, numbered: Numbered) -> None:
        number, part = numbered
        table = self.dataset.read(part, [*IDENTITY, "error"])
        rows = table["row"].to_numpy()
        stays = table["error"].is_null().to_numpy() & ~np.isin(rows, _ids(self.output, self.dropped, number))
        inside = rows_within(self.within, part)
        if inside is not None:
            stays &= np.isin(rows, inside)
        write_subset_part(self.output, part, table.drop_columns(["error"]).filter(stays))


def _ids(output: Output, name: str, number: int) -> npt.NDArray[np.int64]:
    """The rows of one part in a file of ids, which are in ascending order."""
    bounds = [("id", ">=", number << PART), ("id", "<", (number + 1) << PART)]
    with output.open(name) as file:
        ids = pq.read_table(file, columns=["id"], filters=bounds)["id"].to_numpy()
    return ids - (number << PART)
