"""A copy of one column of embeddings as an array on a local disk, which a search reads at memory speed: reading the
Parquet column takes ten times as long.

The copy knows each part by its name and its stamp. Where the dataset has grown, or a part was made anew, only that is
copied, behind the rest; what was replaced stays in the file, until it is more than what is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from ..dataset.dataset import Dataset
from ..dataset.local_copies import search_copies
from ..errors import InputError, OutputError
from .array_runs import Runs, Stored, in_order
from .numbered_rows import Mask, NumberedRows
from .part_vectors import batches

OnBytes = Callable[[int, "int | None"], None]  # bytes copied, bytes in all

_FORMAT = "3"  # of a copy's files
_AT_ONCE = 1 << 32  # bytes that are copied before the record says so
_VECTORS, _PRESENT, _RECORD = "vectors.bin", "present.bin", "parts.parquet"
_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("stamp", pa.int64()),  # of the part
        ("rows", pa.int64()),
        ("longest", pa.float32()),  # no vector of the part that is present is longer
    ]
)


@dataclass(frozen=True)
class Dense:
    """Row i belongs to the dataset's row at position i. Rows without an embedding are zero."""

    vectors: Stored | Runs  # float16 or float32 [rows, dim], L2-normalised, mapped from a file
    present: Mask  # rows with an embedding whose numbers are all finite
    longest: float  # no vector that is present is longer


def silent(_: int, __: int | None) -> None:
    """Tells nobody."""


def dense(numbered: NumberedRows, column: str, on_bytes: OnBytes = silent) -> Dense:
    """The copy of a column; what it lacks of the dataset is copied first. Of each column there is one copy.

    OutputError where it cannot be written, or does not fit on the disk.
    """
    copy = _Copy.of(numbered, column)
    try:
        copy.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{copy.folder.parent}/{column}.lock"):
            copy.complete(on_bytes)
            _remove_others(copy.folder, column)
            return copy.opened()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{copy.folder} cannot be written ({reason}): set CLIPMILL_CACHE to a folder") from error


def existing(numbered: NumberedRows, column: str) -> Dense | None:
    """The copy of a column where it is complete already."""
    copy = _Copy.of(numbered, column)
    try:
        return None if copy.missing() else copy.opened()
    except OSError:  # another process has just removed it
        return None


def column_of(dataset: Dataset, side: str, alias: str | None) -> str:
    """The name of the column of embeddings. InputError where the dataset has none of that side (`image` or `text`)."""
    if f"{side}s" not in dataset.settings.embeds.split(" and "):
        raise InputError(f"{dataset.url} has embeddings of {dataset.settings.embeds} only, not of {side}s")
    return f"{dataset.model(alias).prefix}{side}_embedding"


def home(dataset: Dataset) -> Path:
    """The folder of the copies of a dataset."""
    return search_copies(dataset.url)


def digest(*texts: str) -> str:
    """16 hexadecimal digits that change with the texts."""
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()[:16]


def _remove_others(folder: Path, column: str) -> None:
    """Remove copies of other formats and settings. Processes that have mapped one keep it."""
    for other in folder.parent.glob(f"{column}-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


@dataclass(frozen=True)
class _Copy:
    """Files: the vectors, a byte for each that tells whether it is present, and the record, written last: which parts
    they are of, in their order. What lies behind the rows of the record was left by a process that died."""

    numbered: NumberedRows
    column: str
    folder: Path

    @classmethod
    def of(cls, numbered: NumberedRows, column: str) -> _Copy:
        dataset = numbered.dataset
        return cls(numbered, column, home(dataset) / f"{column}-{digest(dataset.settings.digest, _FORMAT)}")

    def complete(self, on_bytes: OnBytes) -> None:
        if not (missing := self.missing()):
            return
        record, wanted = self._record(), self._stamps()
        used = sum(row["rows"] for row in record.to_pylist() if wanted.get(row["part"]) == row["stamp"])
        if 2 * used < sum(record["rows"].to_pylist()):
            shutil.rmtree(self.folder, ignore_errors=True)
            missing = self.missing()
        self.folder.mkdir(exist_ok=True)
        total = self._rows(missing) * self._width
        if total > (free := shutil.disk_usage(self.folder).free):
            raise OutputError(
                f"{self.folder.parent}: searching needs {total / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free: set "
                "CLIPMILL_CACHE to a folder with more space"
            )
        done = 0
        for some in self._shares(missing):
            done = self._append(some, done, lambda rows: on_bytes(rows * self._width, total))

    def missing(self) -> list[int]:
        """Numbers of the parts that are not copied, or were made anew since."""
        record = self._record()
        copied = dict(zip(record["part"].to_pylist(), record["stamp"].to_pylist(), strict=True))
        return [number for number, (part, stamp) in enumerate(self._stamps().items()) if copied.get(part) != stamp]

    def opened(self) -> Dense:
        record = self._record()
        rows = record["rows"].to_numpy()
        places = np.cumsum(rows) - rows
        where = {part: number for number, part in enumerate(record["part"].to_pylist())}  # of equal ones the last
        chosen = np.array([where[part] for part in self.numbered.dataset.parts], dtype=np.int64)
        stored = self._mapped(_VECTORS, self._dtype, (int(rows.sum()), self._dim))
        present = self._mapped(_PRESENT, np.dtype(np.bool_), (int(rows.sum()), 1))
        return Dense(
            in_order(stored, places[chosen], rows[chosen]),
            np.array(in_order(present, places[chosen], rows[chosen]))[:, 0],
            float(record["longest"].to_numpy()[chosen].max(initial=0)),
        )

    @property
    def _dim(self) -> int:
        return int(self.numbered.dataset.schema.field(self.column).type.list_size)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(self.numbered.dataset.schema.field(self.column).type.value_type.to_pandas_dtype())

    @property
    def _width(self) -> int:
        """Bytes of a vector."""
        return self._dim * self._dtype.itemsize

    def _stamps(self) -> dict[str, int]:
        return dict(zip(self.numbered.dataset.parts, self.numbered.dataset.stamps, strict=True))

    def _rows(self, parts: list[int]) -> int:
        return int(np.diff(self.numbered.starts)[parts].sum())

    def _record(self) -> pa.Table:
        path = self.folder / _RECORD
        return pq.read_table(path, schema=_SCHEMA) if path.exists() else _SCHEMA.empty_table()

    def _mapped(self, name: str, dtype: np.dtype[Any], shape: tuple[int, int]) -> Stored:
        if not shape[0] * shape[1]:
            return np.empty(shape, dtype)
        return np.asarray(np.memmap(self.folder / name, dtype, "r", shape=shape))

    def _shares(self, parts: list[int]) -> Iterator[list[int]]:
        """Parts of about `_AT_ONCE` bytes each time."""
        share: list[int] = []
        for part in parts:
            share.append(part)
            if self._rows(share) * self._width >= _AT_ONCE:
                yield share
                share = []
        if share:
            yield share

    def _append(self, parts: list[int], done: int, on_rows: Callable[[int], None]) -> int:
        """Copy some parts to the end of the files, and then name them in the record. Returns `done` with their rows."""
        record, rows = self._record(), np.diff(self.numbered.starts)[parts]
        before = int(record["rows"].to_numpy().sum())
        starts = np.cumsum([0, *rows])
        with (self.folder / _VECTORS).open("ab") as file:
            file.truncate((before + int(starts[-1])) * self._width)
        vectors = _writable(self.folder / _VECTORS, self._dtype, before, (int(starts[-1]), self._dim))
        present = np.zeros(int(starts[-1]), dtype=np.bool_)
        longest = []
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="copy") as pool:
            places = [slice(start, stop) for start, stop in pairwise(starts.tolist())]
            copied = pool.map(lambda part, at: self._part(part, vectors[at], present[at]), parts, places)
            for number, length in enumerate(copied):
                longest.append(length)
                on_rows(done + int(starts[number + 1]))
        with (self.folder / _PRESENT).open("ab") as file:
            file.truncate(before)
            file.write(present.tobytes())
        dataset = self.numbered.dataset
        names, stamps = [dataset.parts[part] for part in parts], [dataset.stamps[part] for part in parts]
        new = pa.table([names, stamps, rows, longest], schema=_SCHEMA)
        for name in (_VECTORS, _PRESENT):  # or a crash of the machine could leave zeros in place of vectors
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())
        pq.write_table(pa.concat_tables([record, new]), self.folder / "record.part")
        (self.folder / "record.part").replace(self.folder / _RECORD)
        return done + int(starts[-1])

    def _part(self, number: int, vectors: Stored, present: Mask) -> float:
        """Copy one part. Returns the greatest length of its vectors."""
        dataset, longest = self.numbered.dataset, 0.0
        for batch in batches(dataset, dataset.parts[number], self.column, len(present)):
            at = slice(batch.first, batch.first + len(batch.vectors))
            vectors[at], present[at] = batch.vectors, batch.present
            longest = max(longest, float(batch.lengths[np.isfinite(batch.lengths)].max(initial=0)))
        return longest


def _writable(path: Path, dtype: np.dtype[Any], before: int, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The rows of a file from `before` on."""
    if not shape[0] * shape[1]:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r+", offset=before * shape[1] * dtype.itemsize, shape=shape)
