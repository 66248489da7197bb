"""Samples out of a Parquet file that holds the images' bytes: a batch of rows in memory, never a row group."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..choices import SampleKeys
from ..errors import ShardError
from ..records import Sample, Shard
from ..storage.remote import RemoteFile
from ..storage.urls import is_web, open_storage, opening, scheme_of
from .parquet_columns import Columns

_BLOCK, _BLOCKS = 4 << 20, 8  # bytes a request to remote storage, and how many are held for columns read side by side
_BUFFER = 1 << 20  # bytes read at a time of each column
_BATCH, _ROWS = 8 << 20, 32  # bytes and rows read at a time of all columns

# Arrow raises OSError for broken pages too, but without an errno.
_DAMAGE = (pa.ArrowException, OSError, ValueError)


def read_parquet(
    shard: Shard, storage_options: Mapping[str, Any] | None, keys: SampleKeys, fields: Sequence[str] | None = None
) -> Iterator[Sample]:
    """See `shards.read_samples`. Which columns are what: `parquet_columns.Columns`. fields: read the key and these
    columns, and nothing else."""
    with _opened(shard, storage_options) as (file, schema, remote):
        columns = Columns.of(shard.url, schema, keys)
        if fields is not None:
            columns = columns.of_fields(fields)
        rows = 0
        batches = _batches(file, columns, range(file.metadata.num_row_groups))
        while True:
            try:
                batch = next(batches, None)
            except _DAMAGE as error:
                _raise_storage_failure(error, remote)
                yield _lost(rows, file, f": {_reason(error)}")
                return
            if batch is None:
                break
            yield from columns.samples(batch, rows)
            rows += batch.num_rows
        if rows < file.metadata.num_rows:
            yield _lost(rows, file)


def columns_of(shard: Shard, storage_options: Mapping[str, Any] | None, keys: SampleKeys) -> Columns:
    """Which columns of a Parquet shard are what, by its footer. Raises as `read_parquet` does."""
    with _opened(shard, storage_options) as (_, schema, _):
        return Columns.of(shard.url, schema, keys)


def read_images(
    shard: Shard, storage_options: Mapping[str, Any] | None, keys: SampleKeys, rows: Sequence[int], most: int
) -> Iterator[tuple[int, bytes]]:
    """The images of some rows, ascending. Parquet cannot be entered in the middle of a row group, so a row costs what
    comes before it there; one that would cost more than about `most` bytes is left out. Raises as `read_parquet`."""
    with _opened(shard, storage_options) as (file, schema, _):
        columns = Columns.of(shard.url, schema, keys).of_images()
        start = 0
        for number in range(file.metadata.num_row_groups):
            stop = start + file.metadata.row_group(number).num_rows
            within = max(1, int((stop - start) * min(1.0, most / max(1, _stored_bytes(file, number, columns)))))
            wanted = [row for row in rows if start <= row < min(stop, start + within)]
            yield from _images_at(file, number, columns, wanted, start)
            start = stop


def _stored_bytes(file: pq.ParquetFile, number: int, columns: Columns) -> int:
    """Of the columns that are read, in a row group of the file."""
    group = file.metadata.row_group(number)
    chunks = [group.column(index) for index in range(group.num_columns)]
    read = [chunk for chunk in chunks if any(f"{chunk.path_in_schema}.".startswith(f"{p}.") for p in columns.paths)]
    return sum(chunk.total_compressed_size for chunk in read)


def _images_at(
    file: pq.ParquetFile, number: int, columns: Columns, rows: Sequence[int], start: int
) -> Iterator[tuple[int, bytes]]:
    """Of a row group, which begins at row `start`: read up to the last of the rows."""
    left = list(rows)
    batches = _batches(file, columns, [number])
    while left and (batch := next(batches, None)) is not None:
        while left and left[0] < start + batch.num_rows:
            row = left.pop(0)
            image = next(columns.samples(batch.slice(row - start, 1), row)).image
            if image is not None:
                yield row, image
        start += batch.num_rows


@contextmanager
def _opened(
    shard: Shard, storage_options: Mapping[str, Any] | None
) -> Generator[tuple[pq.ParquetFile, pa.Schema, RemoteFile | None], None, None]:
    with ExitStack() as stack:
        with opening(shard.url):
            remote = _open_remote(shard, storage_options)
            if remote is None:
                source = stack.enter_context(_open_local(shard, storage_options))
            else:
                source = stack.enter_context(io.BufferedReader(remote, 1 << 16))
        yield *_footer(shard.url, source, remote), remote


def _open_local(shard: Shard, storage_options: Mapping[str, Any] | None) -> pa.NativeFile:
    path = open_storage(shard.url, storage_options)._strip_protocol(shard.url)
    if Path(path).is_dir():
        raise IsADirectoryError
    return pa.OSFile(path)


def _open_remote(shard: Shard, storage_options: Mapping[str, Any] | None) -> RemoteFile | None:
    """None for a local file."""
    if scheme_of(shard.url) == "file":
        return None
    storage, size = open_storage(shard.url, storage_options), shard.size
    if size is None or is_web(shard.url):
        info = storage.info(shard.url)
        if info["type"] == "directory":
            raise IsADirectoryError
        size = info.get("size")
        if size is None or (is_web(shard.url) and not info.get("partial")):
            raise ShardError(f"{shard.url}: this server gives no byte ranges, which Parquet needs; copy the file first")
    return RemoteFile(storage, shard.url, size, _BLOCK, _BLOCKS)


def _footer(url: str, source: Any, remote: RemoteFile | None) -> tuple[pq.ParquetFile, pa.Schema]:
    try:
        # buffered, or a column is read a whole row group at a time
        file = pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True)
        schema, own = file.schema_arrow, b"clipmill.shard" in (file.metadata.metadata or {})
    except _DAMAGE as error:
        with opening(url):
            _raise_storage_failure(error, remote)
        raise ShardError(f"{url}: not a Parquet file, or a broken one: {_reason(error)}") from error
    if own:
        raise ShardError(f"{url}: these are embeddings that clipmill wrote, not images to embed")
    return file, schema


def _batches(file: pq.ParquetFile, columns: Columns, groups: Iterable[int]) -> Iterator[pa.RecordBatch]:
    for number in groups:
        group = file.metadata.row_group(number)
        bytes_a_row = group.total_byte_size // max(1, group.num_rows)  # column by column, pyarrow may abort
        rows = min(max(1, _BATCH // max(1, bytes_a_row)), _ROWS)
        yield from file.iter_batches(rows, row_groups=[number], columns=columns.paths, use_threads=False)


def _lost(rows: int, file: pq.ParquetFile, why: str = "") -> Sample:
    """Stands for all that could not be read."""
    total = file.metadata.num_rows
    return Sample(rows, "", error=f"read: damaged Parquet ({max(total - rows, 0):,} of {total:,} rows lost{why})")


def _raise_storage_failure(error: Exception, remote: RemoteFile | None) -> None:
    """Raise the error where it is a failure of the storage, not damage of the file."""
    if remote is not None and remote.failure is not None:
        raise remote.failure
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _reason(error: Exception) -> str:
    """One line, whatever bytes of the file Arrow has put into it."""
    line = next(iter(str(error).splitlines()), "").strip()
    return "".join(c if c.isprintable() else "?" for c in line) or type(error).__name__
