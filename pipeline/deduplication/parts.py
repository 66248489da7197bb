"""What removing duplicates does to each run of parts: its vectors into cells, its best rows into the subset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from ..dataset.dataset import Dataset, vectors_of
from ..dataset.output import Output
from ..dataset.subset import IDENTITY, Subset, rows_within, write_subset_part
from ..records import Vectors
from . import kmeans, sorted_files
from .against import Found
from .cells import CellWriter, record_type
from .compare import as_compared
from .components import Ids
from .contents import PAIR
from .sketch import Axes
from .sorted_files import Slice
from .state import KEPT, PART, Run


@dataclass(frozen=True)
class Candidates:
    """The rows that may be near duplicates: embedded, within the subset, and no copies of earlier ones."""

    dataset: Dataset
    column: str  # of embeddings
    output: Output
    within: Subset | None
    there: Found | None  # rows that other datasets have, which are left out

    @property
    def record(self) -> np.dtype[np.void]:
        return record_type(self.dataset.schema.field(self.column).type.list_size, self.dataset.settings.embedding_type)

    def of(self, run: Run, copies: Sequence[Slice]) -> Iterator[tuple[Ids, Vectors]]:
        """The candidates' ids, int64 [n], and their vectors, float32 [n, dim] of length one. copies: those of the run,
        see `FindCopies`."""
        left_out = sorted_files.records(self.output, copies, PAIR)["id"]
        if self.there is not None:
            left_out = np.concatenate([left_out, *self.there.of(run)])
        for number, part in run.parts:
            inside = rows_within(self.within, part)
            for batch in replace(self.dataset, parts=(part,)).batches(["row", "error", self.column]):
                rows = batch["row"].to_numpy().astype(np.int64)
                ids = (number << PART) | rows
                vectors, present = vectors_of(batch[self.column])
                present &= batch["error"].is_null().to_numpy(zero_copy_only=False)
                present &= ~np.isin(ids, left_out)
                if inside is not None:
                    present &= np.isin(rows, inside)
                yield ids[present], kmeans.unit(vectors[present])


@dataclass(frozen=True)
class AssignRun:
    """Writes a run's candidates in order of their cells, and before these their sketches, in the same order."""

    candidates: Candidates
    centroids: Vectors  # float32 [cells, dim]
    probes: int
    axes: Axes | None  # None for no sketches

    @staticmethod
    def name_of(run: Run) -> str:
        return f"{KEPT}/vectors-{run.number:06d}"

    @staticmethod
    def sketches_of(run: Run) -> str:
        return f"{KEPT}/sketches-{run.number:06d}"

    def __call__(self, item: tuple[Run, Sequence[Slice]]) -> None:
        run, copies = item
        output, record, count = self.candidates.output, self.candidates.record, len(self.centroids)
        beside = CellWriter(count, self.axes.record) if self.axes else nullcontext()
        with CellWriter(count, record) as whole, beside as sketches:
            for ids, vectors in self.candidates.of(run, copies):
                cells = kmeans.assign(vectors, self.centroids, self.probes)[0]
                stored = vectors.astype(record["vector"].base)
                whole.add(cells, id=ids, vector=stored)
                if self.axes and sketches:
                    sketches.add(cells, **self.axes.fields(as_compared(stored)))
            if sketches:
                sketches.write(output, self.sketches_of(run))
            whole.write(output, self.name_of(run))


@dataclass(frozen=True)
class WriteRun:
    """Writes the rows of a run that stay; parts from which the same rows go as before are left as they are."""

    dataset: Dataset
    output: Output
    within: Subset | None
    there: Found | None

    def __call__(self, item: tuple[Run, Sequence[Slice]]) -> None:
        run, slices = item
        ids = sorted_files.records(self.output, slices, np.dtype(np.int64))
        ids = np.sort(np.concatenate([ids, *(self.there.of(run) if self.there else ())]))
        gone = {part: ids[(ids >> PART) == number] & ((1 << PART) - 1) for number, part in run.parts}
        digests = {part: hashlib.sha256(rows.tobytes()).hexdigest() for part, rows in gone.items()}
        name = f"{KEPT}/written-{run.number:06d}.json"
        before = json.loads(self.output.read(name) or b"{}")
        changed = [part for part, digest in digests.items() if before.get(part) != digest]
        if not changed:
            return
        if before:  # nothing may be taken for written while it is being replaced
            self.output.write(name, json.dumps({part: before[part] for part in before.keys() - changed}).encode())
        for part in changed:
            self._write(part, gone[part])
        self.output.write(name, json.dumps(digests).encode())

    def _write(self, part: str, gone: Ids) -> None:
        table = self.dataset.read(part, [*IDENTITY, "error"])
        rows = table["row"].to_numpy()
        stays = table["error"].is_null().to_numpy() & ~np.isin(rows, gone)
        inside = rows_within(self.within, part)
        if inside is not None:
            stays &= np.isin(rows, inside)
        write_subset_part(self.output, part, table.drop_columns(["error"]).filter(stays))
