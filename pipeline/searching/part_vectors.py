"""The embeddings of a dataset's parts, as they are stored: a whole column streamed, or some rows of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..dataset.dataset import Dataset, stored_vectors
from ..errors import InfrastructureError
from .array_runs import Stored
from .numbered_rows import Mask, NumberedRows

_ROWS = 1 << 13  # read at a time, in each thread
_AT_ONCE = 8  # parts read from at the same time: against latency


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a part. vectors: [n, dim] as stored, rows without an embedding are zero. present: bool [n],
    rows with an embedding whose numbers are all finite. lengths: float32 [n], not finite where a number is not."""

    first: int  # row of the part
    vectors: Stored
    present: Mask
    lengths: npt.NDArray[np.float32]


def batches(dataset: Dataset, part: str, column: str, rows: int) -> Iterator[Batch]:
    """All rows of a part, which should be `rows`. InfrastructureError where it has others."""
    at = 0
    for batch in dataset.batches_of(part, [column, "row"], _ROWS):
        numbers = batch.column("row").to_numpy()
        if at + len(numbers) > rows or not np.array_equal(numbers, np.arange(at, at + len(numbers))):
            at = -1
            break
        vectors, present = stored_vectors(batch.column(column))
        lengths = _lengths(vectors)
        yield Batch(at, vectors, present & np.isfinite(lengths), lengths)
        at += len(numbers)
    if at != rows:
        raise InfrastructureError(
            f"{dataset.url_of(part)}: its rows are not those in the dataset's manifest: run `clipmill embed` again"
        )


@dataclass(frozen=True)
class PartVectors:
    """Indexed by an array of positions in the dataset, as an array [rows, dim] is. Only the row groups that hold them
    are read, of several parts at the same time."""

    numbered: NumberedRows
    column: str

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> Stored:
        kind = self.numbered.dataset.schema.field(self.column).type
        vectors = np.zeros((len(positions), kind.list_size), kind.value_type.to_pandas_dtype())
        order = np.argsort(positions, kind="stable")
        parts = np.searchsorted(self.numbered.starts, positions[order], side="right") - 1
        groups = np.split(order, np.flatnonzero(np.diff(parts)) + 1) if len(order) else []

        def read(group: npt.NDArray[np.int64]) -> None:
            part = int(np.searchsorted(self.numbered.starts, positions[group[0]], side="right")) - 1
            rows = (positions[group] - self.numbered.starts[part]).tolist()
            table = self.numbered.dataset.take(self.numbered.dataset.parts[part], rows, [self.column])
            vectors[group] = stored_vectors(table[self.column])[0]

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="vectors") as pool:
            list(pool.map(read, groups))
        return vectors


def _lengths(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    lengths: npt.NDArray[np.float32] = torch.linalg.vector_norm(
        torch.from_numpy(np.array(vectors)), dim=1, dtype=torch.float32
    ).numpy()
    return lengths
