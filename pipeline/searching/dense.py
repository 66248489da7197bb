"""A copy of one column of embeddings as a NumPy array on a local disk, which a search reads at memory speed: reading
the Parquet column takes ten times as long."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from filelock import FileLock

from ...clipmodel.download import cache_folder
from ..dataset.dataset import Dataset, stored_vectors
from ..dataset.layout import part_path
from ..errors import InfrastructureError, InputError, OutputError
from .numbered_rows import Mask, NumberedRows

OnBytes = Callable[[int, "int | None"], None]  # bytes copied, bytes in all

_FORMAT = "2"  # of a copy's files
_ROWS = 1 << 13  # read at a time, in each thread


@dataclass(frozen=True)
class Dense:
    """Row i belongs to the dataset's row at position i. Rows without an embedding are zero."""

    vectors: npt.NDArray[Any]  # float16 or float32 [rows, dim], L2-normalised, mapped from a file
    present: Mask  # rows with an embedding whose numbers are all finite
    longest: float  # no vector that is present is longer


def dense(numbered: NumberedRows, column: str, on_bytes: OnBytes = lambda *_: None) -> Dense:
    """The copy of a column, which is made where this version of the dataset has none yet; older copies are removed.

    OutputError where it cannot be written, or does not fit on the disk.
    """
    dataset = numbered.dataset
    version = digest(dataset.version, dataset.settings.digest, _FORMAT)
    folder = home(dataset) / f"{column}-{version}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder.parent}/{column}.lock"):
            if not folder.exists():
                _make(numbered, column, folder, on_bytes)
                _remove_others(folder, column)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{folder} cannot be written ({reason}): set CLIPMILL_CACHE to a folder") from error
    vectors, present, longest = (folder / f"{name}.npy" for name in ("vectors", "present", "longest"))
    return Dense(np.load(vectors, mmap_mode="r"), np.load(present), float(np.load(longest).max(initial=0)))


def column_of(dataset: Dataset, side: str, alias: str | None) -> str:
    """The name of the column of embeddings. InputError where the dataset has none of that side (`image` or `text`)."""
    if f"{side}s" not in dataset.settings.embeds.split(" and "):
        raise InputError(f"{dataset.url} has embeddings of {dataset.settings.embeds} only, not of {side}s")
    return f"{dataset.model(alias).prefix}{side}_embedding"


def home(dataset: Dataset) -> Path:
    """The folder of the copies of a dataset."""
    return cache_folder() / "search" / digest(dataset.url)


def digest(*texts: str) -> str:
    """16 hexadecimal digits that change with the texts."""
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()[:16]


def _make(numbered: NumberedRows, column: str, folder: Path, on_bytes: OnBytes) -> None:
    """Write the copy under another name, and rename it when it is complete."""
    unfinished = folder.with_name(f"{column}.unfinished")  # left by a process that died: we hold the lock
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    kind = numbered.dataset.schema.field(column).type
    shape = (len(numbered), kind.list_size)
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    total = shape[0] * shape[1] * dtype.itemsize
    if total > (free := shutil.disk_usage(unfinished).free):
        raise OutputError(
            f"{unfinished.parent}: searching needs {total / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free: set "
            "CLIPMILL_CACHE to a folder with more space"
        )
    copy = _Copy(
        numbered,
        column,
        np.lib.format.open_memmap(unfinished / "vectors.npy", "w+", dtype, shape),
        np.zeros(len(numbered), dtype=np.bool_),
        np.zeros(len(numbered.dataset.parts), dtype=np.float32),
    )
    done = 0
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="copy") as pool:
        for rows in pool.map(copy.part, range(len(numbered.dataset.parts))):
            done += rows
            on_bytes(done * shape[1] * dtype.itemsize, total)
    np.save(unfinished / "present.npy", copy.present)
    np.save(unfinished / "longest.npy", copy.longest)
    for path in unfinished.iterdir():  # or a crash of the machine could leave zeros in place of vectors
        with path.open("rb") as file:
            os.fsync(file.fileno())
    unfinished.rename(folder)


def _remove_others(folder: Path, column: str) -> None:
    """Remove copies of older versions. Processes that have mapped one keep it."""
    for other in folder.parent.glob(f"{column}-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


@dataclass(frozen=True)
class _Copy:
    numbered: NumberedRows
    column: str
    vectors: npt.NDArray[Any]
    present: Mask
    longest: npt.NDArray[np.float32]  # [parts]

    def part(self, number: int) -> int:
        """Copy one part. Returns its number of rows."""
        dataset, part = self.numbered.dataset, self.numbered.dataset.parts[number]
        start, stop = (int(edge) for edge in self.numbered.starts[number : number + 2])
        at = start
        with dataset.output.open(part_path(part)) as source:
            for batch in pq.ParquetFile(source).iter_batches(_ROWS, columns=[self.column, "row"]):
                vectors, present = stored_vectors(batch.column(self.column))
                rows = batch.column("row").to_numpy()
                if at + len(rows) > stop or not np.array_equal(rows, np.arange(at - start, at - start + len(rows))):
                    break
                self.vectors[at : at + len(rows)] = vectors
                lengths = _lengths(self.vectors[at : at + len(rows)])
                self.present[at : at + len(rows)] = present & np.isfinite(lengths)
                self.longest[number] = max(self.longest[number], lengths[np.isfinite(lengths)].max(initial=0))
                at += len(rows)
        if at != stop:
            raise InfrastructureError(
                f"{dataset.url_of(part)}: its rows are not those in the dataset's manifest: run `clipmill embed` again"
            )
        return stop - start


def _lengths(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """float32 [n]; not finite where a number is not."""
    lengths: npt.NDArray[np.float32] = torch.linalg.vector_norm(
        torch.from_numpy(np.asarray(vectors)), dim=1, dtype=torch.float32
    ).numpy()
    return lengths
