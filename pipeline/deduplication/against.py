"""Decontamination: the rows of a dataset that equal, or are near, any row of other datasets, such as test sets.

All are compared with all, exactly: rows x reference rows x dim multiplications, on a GPU where there is one. That is
10^13 for a billion rows of 512 against 20,000, a minute of a hundred cores, and little beside reading a billion rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ...clipmodel.products import products
from ..dataset.dataset import Dataset, stored_vectors, vectors_of
from ..dataset.output import Output
from ..dataset.subset import Subset, rows_within
from ..errors import InputError
from ..records import Vectors
from .components import Ids
from .kmeans import device, unit
from .state import KEPT, PART, Run

_BLOCK = 1 << 20  # reference rows held at once: 1 GiB of float16[512]
_TILE = 8192  # reference rows that a batch is compared with at a time: 512 MiB of cosines


@dataclass(frozen=True)
class Reference:
    """Another dataset, whose rows are not to be in this one."""

    dataset: Dataset
    content: str | None  # column that equal rows share; None where only embeddings are compared
    vectors: str | None  # column of embeddings; None where only contents are compared

    @classmethod
    def open(cls, url: str, dataset: Dataset, alias: str | None, content: str | None, vectors: str | None) -> Reference:
        """vectors: without its model's prefix. InputError for what is no dataset with these columns, or whose
        embeddings are another model's than this dataset's."""
        reference = Dataset.open(url, dataset.output.storage_options)
        if vectors:
            model = reference.same_model(dataset.model(alias), f"--against {url}", dataset.url)
            vectors = f"{model.prefix}{vectors}"
            if vectors not in reference.schema.names:
                raise InputError(f"--against {url} has no column {vectors}; use --no-near, or the other --for")
        return cls(reference, content, vectors)

    def blocks(self) -> Iterator[tuple[pa.Array, Vectors]]:
        """Contents, and embeddings of length one: float16 or float32 [n, dim]; so many rows at a time."""
        contents: list[pa.Array] = []
        vectors: list[npt.NDArray[Any]] = []
        for batch in self.dataset.batches([name for name in ("error", self.content, self.vectors) if name]):
            embedded = batch["error"].is_null()
            if self.content:
                contents.append(batch[self.content].filter(embedded))
            if self.vectors:
                stored, present = stored_vectors(batch[self.vectors])
                vectors.append(stored[present & embedded.to_numpy(zero_copy_only=False)])
            if sum(map(len, contents or vectors)) >= _BLOCK:
                yield self._block(contents, vectors)
                contents, vectors = [], []
        if contents or vectors:
            yield self._block(contents, vectors)

    def _block(self, contents: list[pa.Array], vectors: list[npt.NDArray[Any]]) -> tuple[pa.Array, Any]:
        values = pa.chunked_array(contents, pa.string()).combine_chunks().drop_null()
        return values, np.concatenate(vectors) if vectors else np.empty((0, 1), np.float32)


@dataclass(frozen=True)
class Found:
    """Rows that other datasets have: a small file for each run, committed by whoever found them."""

    output: Output

    @staticmethod
    def name_of(run: Run) -> str:
        return f"{KEPT}/against-{run.number:06d}.npz"

    def write(self, run: Run, equal: Ids, near: Ids) -> None:
        """Ids in ascending order."""
        file = io.BytesIO()
        np.savez(file, equal=equal, near=near)
        self.output.write(self.name_of(run), file.getvalue())

    def of(self, run: Run) -> tuple[Ids, Ids]:
        """The ids of equal rows, and of those that are only near, in ascending order."""
        with np.load(io.BytesIO(self.output.read(self.name_of(run)) or b"")) as kept:
            return kept["equal"], kept["near"]


@dataclass(frozen=True)
class FindRun:
    """Finds a run's rows that equal, or are near, a reference's, and commits their ids as a file."""

    dataset: Dataset
    content: str | None
    vectors: str | None
    references: Sequence[Reference]
    threshold: float
    within: Subset | None
    found: Found

    def __call__(self, run: Run) -> None:
        equal, near = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for reference in self.references:
            for contents, vectors in reference.blocks():
                for number, part in run.parts:
                    for some_equal, some_near in self._of(number, part, contents, vectors):
                        equal.append(some_equal)
                        near.append(some_near)
        ids = np.unique(np.concatenate(equal)), np.unique(np.concatenate(near))
        self.found.write(run, ids[0], np.setdiff1d(ids[1], ids[0]))

    def _of(self, number: int, part: str, contents: pa.Array, vectors: Vectors) -> Iterator[tuple[Ids, Ids]]:
        inside = rows_within(self.within, part)
        columns = [name for name in ("row", "error", self.content, self.vectors) if name]
        for batch in replace(self.dataset, parts=(part,)).batches(columns):
            rows = batch["row"].to_numpy().astype(np.int64)
            candidate = batch["error"].is_null().to_numpy(zero_copy_only=False)
            if inside is not None:
                candidate = candidate & np.isin(rows, inside)
            ids, none = (number << PART) + rows, np.zeros(len(rows), np.bool_)
            equal = pc.is_in(batch[self.content], contents).to_numpy(zero_copy_only=False) if self.content else none
            near = none
            if self.vectors:
                embeddings, present = vectors_of(batch[self.vectors])
                near = present & _near(unit(embeddings), vectors, self.threshold)
            yield ids[candidate & equal], ids[candidate & near]


def _near(vectors: Vectors, reference: Vectors, threshold: float) -> npt.NDArray[np.bool_]:
    """Which vectors reach the threshold with any of the reference's. float32 [n, dim]; float16 or float32 [m, dim]."""
    target = device()
    rows = torch.from_numpy(vectors).to(target)
    near = torch.zeros(len(rows), dtype=torch.bool, device=target)
    for start in range(0, len(reference), _TILE):
        tile = torch.from_numpy(unit(reference[start : start + _TILE].astype(np.float32))).to(target)
        near |= products(rows, tile).amax(dim=1) >= threshold
    found: npt.NDArray[np.bool_] = near.cpu().numpy()
    return found
