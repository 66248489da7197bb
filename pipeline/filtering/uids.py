"""DataComp's subset files: the uids of the chosen rows, as its resharder and trainer look samples up by them.

A uid is 32 hexadecimal digits, 128 bits; the file is a NumPy array of dtype `u8,u8` with their upper and lower halves,
sorted (github.com/mlfoundations/datacomp, README and resharder.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.narrow import narrowed, reading
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

    def write(table: Dataset) -> int:
        with connect(table, subset) as connection, _published(url, storage_options) as path:
            written = _write_sorted(connection, path, subset.funnel.kept)
            if written != subset.funnel.kept:
                raise OutputError(
                    f"{target}: the subset has {subset.funnel.kept - written:,} rows that the dataset no longer has; "
                    "run `clipmill filter` again"
                )
        return written

    return reading(narrowed(dataset), write)


def _write_sorted(connection: duckdb.DuckDBPyConnection, path: Path, count: int) -> int:
    """Of the view `pairs`, in one pass. count: of the rows, for the file's header. Returns how many there were."""
    is_uid = "regexp_full_match(uid, '[0-9a-fA-F]{32}')"
    upper, lower = (f"CASE WHEN {is_uid} THEN ('0x' || uid[{first}:{first + 15}])::UBIGINT END" for first in (1, 17))
    query = f"SELECT {upper} AS upper, {lower} AS lower FROM pairs ORDER BY 1 NULLS FIRST, 2"
    written = 0
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(UID), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        reader = connection.sql(query).to_arrow_reader(_ROWS)
        for batch in reader:
            if batch["upper"].null_count:
                reader.close()
                _name_first(connection, f"{is_uid} IS NOT TRUE")
            rows = np.empty(len(batch), UID)
            rows["f0"], rows["f1"] = batch["upper"].to_numpy(), batch["lower"].to_numpy()
            file.write(rows.tobytes())
            written += len(batch)
    return written


def _name_first(connection: duckdb.DuckDBPyConnection, bad: str) -> NoReturn:
    """InputError with the first row for which the condition holds."""
    query = f"SELECT key, shard, uid FROM pairs WHERE {bad} ORDER BY shard, row LIMIT 1"
    ((key, shard, uid),) = connection.execute(query).fetchall()
    reason = "has no uid" if uid is None else f"has {uid!r} as uid, which is not 32 hexadecimal digits"
    raise InputError(f"--uids: the sample with key {key} of {shard} {reason}; leave it out by --where, or drop --uids")


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
