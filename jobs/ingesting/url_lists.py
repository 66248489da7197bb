"""Lists of URLs, in all the formats that img2dataset reads, as tables with the columns that it wants."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ...pipeline.errors import InputError, one_line
from ...pipeline.inputs.values import parse_json
from ...pipeline.job.ingest import IngestJob
from ...pipeline.storage.retry import retry
from ...pipeline.storage.streams import is_stream
from ...pipeline.storage.urls import canonical_url, open_storage, scheme_of, url_of

# img2dataset's own names, which a list's further columns cannot have
_RESERVED = frozenset(
    "key caption url width height original_width original_height status error_message exif md5 sha256 sha512".split()  # noqa: SIM905
)

# What a gzip file may unpack to: lists of URLs shrink to a fifth or a tenth, files that were made to fill the memory to
# a thousandth.
_UNPACKED, _TIMES = 64 << 20, 50  # bytes, and times the size of the file

_LINES = 50_000  # of JSON that are Python's objects at a time


def find_lists(job: IngestJob) -> list[str]:
    """The lists that the job names, by name. InputError where there is none."""
    if is_stream(job.urls):
        raise InputError(
            f"{job.urls}: a pipe cannot be ingested: a second run would not find what the first one has; write the "
            "list to a file"
        )
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
    names = (url_of(scheme_of(url), info["name"]) for info in infos if info["type"] == "file")
    lists = sorted(name for name in names if _reader(name))
    if not lists:
        raise InputError(f"{job.urls} holds no list of URLs; their names end in {', '.join(_READERS)}")
    return lists


def read_list(url: str, job: IngestJob) -> pa.Table:
    """`url`, and where the job names them `caption`, `sha256` and its further columns; rows in order, without
    those that have no URL. InputError, which names the columns that there are, for a file that is no such list."""
    reader = _reader(url)
    if reader is None:
        raise InputError(f"{url} does not have the name of a list of URLs, which ends in {', '.join(_READERS)}")
    if taken := _RESERVED.intersection(job.columns):
        raise InputError(f"--column {min(taken)}: the shards have a field of that name already")
    content = retry(lambda: open_storage(url, job.storage_options).cat_file(url))
    try:
        table = reader(_unpacked(content) if url.lower().endswith(".gz") else content)
        columns = table.column_names
    except UnicodeDecodeError as error:
        raise InputError(f"{url}: its text or column names are not UTF-8; save the list as UTF-8") from error
    except _UNREADABLE as error:
        raise _no_list(url, error) from error
    wanted = {"url": job.url_column, "caption": job.caption_column, "sha256": job.sha256_column}
    names = {name: column for name, column in wanted.items() if column} | {name: name for name in job.columns}
    for column in names.values():
        if (times := columns.count(column)) != 1:
            has = f"has {times} columns" if times else "has no column"
            raise InputError(f"{url}: {has} {column!r}; its columns: {', '.join(columns)}")
    chosen = pa.table({name: _as_text(url, table[column], column) for name, column in names.items()})
    try:
        chosen = chosen.set_column(0, "url", pc.cast(chosen["url"], pa.string()))
    except pa.ArrowException as error:  # lists or objects, where a URL should be
        raise _no_list(url, error) from error
    return chosen.filter(pc.greater(pc.utf8_length(pc.fill_null(chosen["url"], "")), 0))


# what Arrow, json and gzip raise for content that is something else
_UNREADABLE = (pa.ArrowException, OSError, ValueError, EOFError, zlib.error, RecursionError, OverflowError)


def _no_list(url: str, error: Exception) -> InputError:
    reason = one_line(next(iter(str(error).splitlines()), ""))
    return InputError(f"{url}: cannot be read as a list of URLs: {reason}")


def _unpacked(content: bytes) -> bytes:
    limit = max(_UNPACKED, _TIMES * len(content))
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        unpacked = file.read(limit + 1)
    if len(unpacked) > limit:
        raise ValueError(
            f"its {len(content):,} bytes unpack to more than {limit:,}; unpack it yourself if that is right"
        )
    return unpacked


def _as_text(url: str, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """CSV readers take text that is not UTF-8 for bytes."""
    if not pa.types.is_binary(column.type):
        return column
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise InputError(f"{url}: the column {name!r} is not UTF-8; save the list as UTF-8") from error


def _lines(content: bytes) -> pa.Table:
    lines = (line.strip() for line in content.decode("utf-8-sig").splitlines())
    return pa.table({"url": pa.array([line for line in lines if line], pa.string())})


def _separated(by: str) -> Callable[[bytes], pa.Table]:
    parsing = pa.csv.ParseOptions(delimiter=by, newlines_in_values=True)
    return lambda content: pa.csv.read_csv(io.BytesIO(content), parse_options=parsing)


def _json(content: bytes) -> pa.Table:
    import json

    rows = json.loads(content)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it must be a list of objects, [{…}, {…}]")
    return _table(rows)


def _json_lines(content: bytes) -> pa.Table:
    """Parsed by Python: Arrow's reader dies of values that are nested deep."""
    rows = _objects(io.BytesIO(content))
    tables = []
    while some := list(islice(rows, _LINES)):
        tables.append(_table(some))
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def _objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield parse_json(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Objects, each of which may lack some columns: Arrow itself would take those of the first alone."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


_READERS: dict[str, Callable[[bytes], pa.Table]] = {
    ".txt": _lines,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": lambda content: pq.read_table(io.BytesIO(content)),
}


def _reader(url: str) -> Any:
    name = url.lower().removesuffix(".gz")
    return next((reader for suffix, reader in _READERS.items() if name.endswith(suffix)), None)
