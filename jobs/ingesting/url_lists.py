"""Lists of URLs, in all the formats that img2dataset reads, as tables with the columns that it wants."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from ...pipeline.errors import InputError
from ...pipeline.job.ingest import IngestJob
from ...pipeline.storage.retry import retry
from ...pipeline.storage.urls import canonical_url, open_storage, scheme_of, url_of

# img2dataset's own names, which a list's further columns cannot have
_RESERVED = frozenset(
    "key caption url width height original_width original_height status error_message exif md5 sha256 sha512".split()  # noqa: SIM905
)


def find_lists(job: IngestJob) -> list[str]:
    """The lists that the job names, by name. InputError where there is none."""
    url = canonical_url(job.urls)
    storage = open_storage(url, job.storage_options)
    try:
        info = retry(lambda: storage.info(url))
        if info["type"] != "directory":
            return [url]
        infos = retry(lambda: storage.ls(url, detail=True))
    except FileNotFoundError as error:
        raise InputError(f"{job.urls}: no such file or folder; check its spelling") from error
    except PermissionError as error:
        raise InputError(f"{job.urls}: permission denied; check its access rights or your credentials") from error
    names = (url_of(scheme_of(url), each["name"]) for each in infos if each["type"] == "file")
    found = sorted(name for name in names if _reader(name))
    if not found:
        raise InputError(f"{job.urls}: holds no list of URLs ({', '.join(_READERS)})")
    return found


def read_list(url: str, job: IngestJob) -> pa.Table:
    """`url`, and where the job names them `caption`, `sha256` and its further columns; rows in the list's order, those
    without a URL left out. InputError, with the columns that there are, for what is none."""
    reader = _reader(url)
    if reader is None:
        raise InputError(f"{url}: is no list of URLs by its name; name {', '.join(_READERS)}")
    if taken := _RESERVED.intersection(job.columns):
        raise InputError(f"--column {min(taken)}: the shards have a field of that name already")
    content = retry(lambda: open_storage(url, job.storage_options).cat_file(url))
    try:
        table = reader(gzip.decompress(content) if url.lower().endswith(".gz") else content)
    except _UNREADABLE as error:
        raise _no_list(url, error) from error
    wanted = {"url": job.url_column, "caption": job.caption_column, "sha256": job.sha256_column}
    names = {name: column for name, column in wanted.items() if column} | {name: name for name in job.columns}
    for column in names.values():
        if (times := table.column_names.count(column)) != 1:
            has = f"has {times} columns" if times else "has no column"
            raise InputError(f"{url}: {has} {column!r}; its columns: {', '.join(table.column_names)}")
    chosen = pa.table({name: table[column] for name, column in names.items()})
    try:
        chosen = chosen.set_column(0, "url", pc.cast(chosen["url"], pa.string()))
    except pa.ArrowException as error:  # lists or objects, where a URL should be
        raise _no_list(url, error) from error
    return chosen.filter(pc.greater(pc.utf8_length(pc.fill_null(chosen["url"], "")), 0))


# what Arrow, json and gzip raise for content that is something else
_UNREADABLE = (pa.ArrowException, OSError, ValueError, EOFError, zlib.error)


def _no_list(url: str, error: Exception) -> InputError:
    reason = next(iter(str(error).splitlines()), "")
    return InputError(f"{url}: cannot be read as a list of URLs: {reason}")


def _lines(content: bytes) -> pa.Table:
    lines = (line.strip() for line in content.decode("utf-8-sig").splitlines())
    return pa.table({"url": pa.array([line for line in lines if line], pa.string())})


def _separated(by: str) -> Callable[[bytes], pa.Table]:
    parsing = pa.csv.ParseOptions(delimiter=by, newlines_in_values=True)
    return lambda content: pa.csv.read_csv(io.BytesIO(content), parse_options=parsing)


def _json(content: bytes) -> pa.Table:
    """A list of objects, each of which may lack some columns: Arrow itself would take those of the first alone."""
    import json

    rows = json.loads(content)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it must be a list of objects, [{…}, {…}]")
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


_READERS: dict[str, Callable[[bytes], pa.Table]] = {
    ".txt": _lines,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".json": _json,
    ".jsonl": lambda content: pa.json.read_json(io.BytesIO(content)),
    ".parquet": lambda content: pq.read_table(io.BytesIO(content)),
}


def _reader(url: str) -> Any:
    name = url.lower().removesuffix(".gz")
    return next((reader for suffix, reader in _READERS.items() if name.endswith(suffix)), None)
