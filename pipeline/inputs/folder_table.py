"""`metadata.jsonl` and `metadata.csv` of a folder of images: a row for each file, after Hugging Face's convention."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from ..errors import ShardError, one_line
from .values import parse_json

FILE_NAME = "file_name"  # the column that says which file a row is about
MAX_TABLE = 64 << 20  # bytes; all of it is in memory


def too_large(url: str) -> ShardError:
    return ShardError(
        f"{url}: larger than {MAX_TABLE >> 20} MiB; put images and columns into Parquet files, or split the folder"
    )


def rows_of(url: str, content: bytes) -> dict[str, dict[str, Any]]:
    """The rows of a table by file name. ShardError, which names the line, for a table that is broken."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        for line, row in _csv(content) if url.endswith(".csv") else _jsonl(content):
            if not isinstance(name := row.get(FILE_NAME), str):
                raise ShardError(f"{url}: line {line} has no {FILE_NAME}, which says what file a row is about")
            rows.setdefault(name.removeprefix("./"), row)
    except (ValueError, csv.Error) as error:
        kind = "CSV" if url.endswith(".csv") else "JSON, one object a line"
        raise ShardError(f"{url}: this is not valid {kind}: {one_line(error)}") from error
    return rows


def _jsonl(content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error


def _csv(content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    for row in reader:
        yield reader.line_num, {name: value for name, value in row.items() if name is not None}
