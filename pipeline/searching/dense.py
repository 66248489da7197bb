"""A dataset's embeddings of one side once more, as one array on a local disk, which a search reads at memory speed: a
list column of Parquet takes ten times as long."""

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
from filelock import FileLock

from ...clipmodel.download import cache_folder
from ..dataset.dataset import Dataset, stored_vectors
from ..errors import InfrastructureError, InputError, OutputError
from .places import Mask, Places

OnBytes = Callable[[int, "int | None"], None]  # copied, and in all

_ROWS = 1 << 13  # read at a time, in each thread


@dataclass(frozen=True)
class Dense:
    """Row i is the dataset's i-th. Rows without an embedding are zero."""

    vectors: npt.NDArray[Any]  # float16 or float32 [rows, dim], L2-normalised, mapped from a file
    present: Mask


def dense(places: Places, column: str, on_bytes: OnBytes = lambda *_: None) -> Dense:
    """The copy of a column, made where there is none of this version of the dataset; older ones are removed.

    OutputError where it cannot be written, or does not fit on the disk.
    """
    dataset = places.dataset
    version = hashlib.sha256(f"{dataset.version} {dataset.settings.digest}".encode()).hexdigest()[:16]
    folder = _home(dataset) / f"{column}-{version}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder.parent}/{column}.lock"):
            if not folder.exists():
                _make(places, column, folder, on_bytes)
                _remove_others(folder, column)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{folder}: cannot be written to: {reason}; set CLIPMILL_CACHE to a folder") from error
    return Dense(np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "present.npy"))


def column_of(dataset: Dataset, side: str, alias: str | None) -> str:
    """InputError where the dataset has no embeddings of that side (`image` or `text`)."""
    if f"{side}s" not in dataset.settings.embeds.split(" and "):
        raise InputError(f"{dataset.url} holds embeddings of {dataset.settings.embeds} alone, none of {side}s")
    return f"{dataset.model(alias).prefix}{side}_embedding"


def _home(dataset: Dataset) -> Path:
    return cache_folder() / "search" / hashlib.sha256(dataset.url.encode()).hexdigest()[:16]


def _make(places: Places, column: str, folder: Path, on_bytes: OnBytes) -> None:
    """Written under another name, and renamed when it is whole."""
    unfinished = folder.with_name(f"{column}.unfinished")  # whoever left one behind is dead: we hold the lock
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    kind = places.dataset.schema.field(column).type
    shape = (len(places), kind.list_size)
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    total = shape[0] * shape[1] * dtype.itemsize
    if total > (free := shutil.disk_usage(unfinished).free):
        raise OutputError(
            f"{unfinished.parent}: searching needs {total / 1e9:,.1f} GB here and {free / 1e9:,.1f} GB are free; set "
            "CLIPMILL_CACHE to a folder with more"
        )
    copy = _Copy(
        places,
        column,
        np.lib.format.open_memmap(unfinished / "vectors.npy", "w+", dtype, shape),
        np.zeros(len(places), dtype=np.bool_),
    )
    done = 0
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="copy") as pool:
        for rows in pool.map(copy.part, range(len(places.dataset.parts))):
            done += rows
            on_bytes(done * shape[1] * dtype.itemsize, total)
    np.save(unfinished / "present.npy", copy.present)
    for path in unfinished.iterdir():  # or a crash of the machine might leave zeros where vectors should be
        with path.open("rb") as file:
            os.fsync(file.fileno())
    unfinished.rename(folder)


def _remove_others(folder: Path, column: str) -> None:
    """Of older versions. Who has mapped one keeps it."""
    for other in folder.parent.glob(f"{column}-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


@dataclass(frozen=True)
class _Copy:
    places: Places
    column: str
    vectors: npt.NDArray[Any]
    present: Mask

    def part(self, number: int) -> int:
        """Copy one part; how many rows it has."""
        dataset, part = self.places.dataset, self.places.dataset.parts[number]
        start, stop = (int(each) for each in self.places.starts[number : number + 2])
        at = start
        with dataset.output.open(part) as source:
            for batch in pq.ParquetFile(source).iter_batches(_ROWS, columns=[self.column, "row"]):
                vectors, present = stored_vectors(batch.column(self.column))
                rows = batch.column("row").to_numpy()
                if at + len(rows) > stop or not np.array_equal(rows, np.arange(at - start, at - start + len(rows))):
                    break
                self.vectors[at : at + len(rows)] = vectors
                self.present[at : at + len(rows)] = present
                at += len(rows)
        if at != stop:
            raise InfrastructureError(
                f"{dataset.url_of(part)}: other rows than the dataset's manifest says; run `clipmill embed` again"
            )
        return stop - start
