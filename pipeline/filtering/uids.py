"""DataComp's subset files: the uids of the chosen rows, as its resharder and trainer look samples up by them.

A uid is 32 hexadecimal digits, 128 bits; the file is a NumPy array of dtype `u8,u8` with their upper and lower halves,
sorted (github.com/mlfoundations/datacomp, README and resharder.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.narrow import narrowed
from ..dataset.single_file import SingleFile
from ..dataset.sql import connect
from ..dataset.subset import Subset
from ..errors import InputError, OutputError
from ..storage import staging
from ..storage.retry import retry
from ..storage.urls import canonical_url, open_storage, scheme_of

UID = np.dtype("u8,u8")
_ROWS = 1 << 20  # at once


def check_uids(dataset: Dataset, target: str, storage_options: Mapping[str, Any], overwrite: bool) -> None:
    """InputError for a dataset without uids; OutputError for a file in the way that holds none, unless `overwrite`."""
    if "uid" not in dataset.schema.names:
        raise InputError(f"--uids: {dataset.url} has no column uid; run `clipmill embed` with --column uid")
    if not overwrite:
        SingleFile.at(target, storage_options).check_own(repr(np.lib.format.dtype_to_descr(UID)).encode(), "filter")


def write_uids(dataset: Dataset, subset: Subset, target: str, storage_options: Mapping[str, Any] | None = None) -> int:
    """Writes the kept rows' uids; returns their number. DuckDB sorts them, and spills what does not fit its memory.
    InputError, with the row's key, for a kept row that has no uid, or one that is not 32 hexadecimal digits."""
    url = canonical_url(target)
    with connect(narrowed(dataset), subset) as connection, _published(url, storage_options) as path:
        connection.execute("CREATE VIEW uids AS SELECT key, shard, row, uid FROM pairs")
        _check_values(connection)
        halves = "('0x' || uid[1:16])::UBIGINT AS upper, ('0x' || uid[17:32])::UBIGINT AS lower"
        count = subset.funnel.kept
        with path.open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(UID), "fortran_order": False, "shape": (count,)}
            np.lib.format.write_array_header_1_0(file, header)
            reader = connection.sql(f"SELECT {halves} FROM uids ORDER BY 1, 2").to_arrow_reader(_ROWS)
            for batch in reader:
                rows = np.empty(len(batch), UID)
                rows["f0"], rows["f1"] = batch["upper"].to_numpy(), batch["lower"].to_numpy()
                file.write(rows.tobytes())
                count -= len(batch)
        if count:
            raise OutputError(
                f"{target}: the subset has {count:,} rows that the dataset no longer has; run `clipmill filter` again"
            )
    return subset.funnel.kept


def _check_values(connection: duckdb.DuckDBPyConnection) -> None:
    bad = "uid IS NULL OR NOT regexp_full_match(uid, '[0-9a-fA-F]{32}')"
    first = connection.execute(f"SELECT key, shard, uid FROM uids WHERE {bad} ORDER BY shard, row LIMIT 1").fetchone()
    if first is not None:
        key, shard, uid = first
        reason = "has no uid" if uid is None else f"has {uid!r} as uid, which is not 32 hexadecimal digits"
        raise InputError(
            f"--uids: the sample with key {key} of {shard} {reason}; leave it out by --where, or drop --uids"
        )


@contextmanager
def _published(url: str, storage_options: Mapping[str, Any] | None) -> Iterator[Path]:
    """A local path to write to, which becomes the file at `url` when all went well."""
    local = scheme_of(url) == "file"
    folder = Path(url).parent if local else staging.scratch()
    path = folder / f".{Path(url).name}.{os.getpid()}.part" if local else staging.unfinished(folder, Path(url).name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield path
        if local:
            path.replace(url)
        else:
            retry(lambda: open_storage(url, storage_options).put_file(str(path), url))
    except OSError as error:
        raise OutputError(f"{url}: cannot be written to: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            path.unlink()
