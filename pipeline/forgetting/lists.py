"""The lists that name rows: a text file with a value a line, or a column of a CSV or Parquet file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ..errors import InputError, one_line
from ..inputs.entries import asking
from ..storage.streams import read_whole
from ..storage.urls import canonical_url

_OPTIONS = {"uid": "--uids", "url": "--urls", "sha256": "--sha256", "key": "--keys"}


def read_list(path: str, kind: str, storage_options: Mapping[str, Any] | None = None) -> frozenset[str]:
    """The values, each once. kind: the column that they are of. InputError, which names option and file, for a list
    that is empty or cannot be read."""
    name, url = f"{_OPTIONS[kind]} {path}", canonical_url(path)
    with asking(url):
        content = read_whole(url, storage_options)
    try:
        values = _values(content, path.lower(), kind, name)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: cannot be read: {one_line(error)}") from error
    chosen = frozenset(text for value in values if value is not None and (text := str(value).strip()))
    if not chosen:
        raise InputError(f"{name}: the list is empty")
    if kind == "sha256" and (odd := [value for value in chosen if not _is_sha256(value)]):
        raise InputError(f"{name}: {min(odd)[:80]!r} is no sha256: each is 64 hexadecimal digits")
    return chosen


def _values(content: bytes, path: str, kind: str, name: str) -> list[Any]:
    if path.endswith(".parquet"):
        table = pq.ParquetFile(io.BytesIO(content))
        return list(table.read([_column(table.schema_arrow.names, kind, name)])[kind].to_pylist())
    if path.endswith(".csv"):
        options = pyarrow.csv.ConvertOptions(column_types={kind: pa.string()})
        read = pyarrow.csv.read_csv(io.BytesIO(content), convert_options=options)
        return list(read[_column(read.column_names, kind, name)].to_pylist())
    return content.decode("utf-8-sig").splitlines()


def _column(names: list[str], kind: str, name: str) -> str:
    if kind not in names:
        raise InputError(f"{name}: there is no column {kind}; its columns are {', '.join(names)}")
    return kind


def _is_sha256(value: str) -> bool:
    return len(value) == 64 and not set(value.lower()) - set("0123456789abcdef")
