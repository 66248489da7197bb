"""Samples out of a folder of image files, with the captions and the json beside them and in the folder's table."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

from ..choices import SampleKeys
from ..errors import ShardError
from ..records import Shard
from ..storage.retry import is_final, retry
from ..storage.urls import open_storage, opening, scheme_of
from .folder_files import TABLES, FolderFile, FolderSample, list_files, samples_of
from .folder_table import MAX_TABLE, rows_of, too_large
from .from_table import files_of_table
from .grouping import File, Grouper, SampleFiles
from .names import utf8
from .tario import MAX_MEMBER

_AT_ONCE = 16  # samples fetched at the same time: against latency
_AHEAD = 32  # samples fetched ahead of the consumer,
_AHEAD_BYTES = 64 << 20  # and bytes, as listed

# Faults of one file. Others of local disks (too many open files, a server that is gone) concern all files.
_ITS_OWN = (errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)

_Rows = Mapping[str, dict[str, Any]]


def read_folder(
    shard: Shard, storage_options: Mapping[str, Any] | None, keys: SampleKeys, without_images: bool = False
) -> Iterator[SampleFiles]:
    """See `shards.read_files`. Every image is a sample, and so is every caption without an image; in order of their
    names, without the extension. without_images: their data is not read, and their samples have an `error`."""
    grouper = Grouper(keys)
    with opening(shard.url):
        storage = open_storage(shard.url, storage_options)
        files = list_files(storage, shard.url)
    samples = samples_of(files, grouper.roles)
    if not any(sample.image for sample in samples):
        raise ShardError(f"{shard.url}: no image files in this folder")
    reader = _Reader(shard.url, storage, grouper, without_images)
    rows = reader.table(files)
    names = {file.name for file in files}
    samples += [FolderSample(name.rpartition(".")[0] or name, missing=name) for name in rows if name not in names]
    yield from _fetched(samples, reader, rows)


def _fetched(samples: list[FolderSample], reader: _Reader, rows: _Rows) -> Iterator[SampleFiles]:
    """In order, some of them at the same time."""
    waiting: deque[tuple[FolderSample, Future[SampleFiles]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="files")
    try:
        for sample in samples:
            while waiting and (len(waiting) >= _AHEAD or held + sample.size > _AHEAD_BYTES):
                done, future = waiting.popleft()
                held -= done.size
                yield future.result()
            waiting.append((sample, pool.submit(reader.read, sample, rows)))
            held += sample.size
        while waiting:
            yield waiting.popleft()[1].result()
    finally:
        reader.stopped = True
        pool.shutdown(wait=False, cancel_futures=True)


class _Reader:
    """Reads the files of a sample, in any thread."""

    def __init__(self, url: str, storage: fsspec.AbstractFileSystem, grouper: Grouper, without_images: bool) -> None:
        self._url, self._storage, self._grouper = url, storage, grouper
        self._root = os.path.realpath(storage._strip_protocol(url)) if scheme_of(url) == "file" else None
        self._without_images, self.stopped = without_images, False

    def table(self, files: list[FolderFile]) -> _Rows:
        """The rows of the folder's table by file name; none where it has no table."""
        table = next((file for name in TABLES for file in files if file.name == name), None)
        if table is None:
            return {}
        url = self._url + table.name
        if (table.size or 0) > MAX_TABLE:
            raise too_large(url)
        file = self._file(table)
        if file.data is None:
            raise ShardError(f"{url}: {file.fault or too_large(url)}")
        return rows_of(url, file.data)

    def read(self, sample: FolderSample, rows: _Rows) -> SampleFiles:
        key = utf8(sample.stem)
        row = rows.get(sample.missing or (sample.image.name if sample.image else ""))
        read = self._grouper.sample(key, [self._file(file) for file in sample.all], row)
        if row is not None:
            read.files = [*read.files, *files_of_table(read)]
        if sample.missing:
            read.error = f"read: the folder's table names a file that is not in it ({utf8(sample.missing)})"
        elif fault := next((file.fault for file in read.files if file.fault), None):
            read.error = read.error or f"read: {fault}"
        return read

    def _file(self, file: FolderFile) -> File:
        data, fault = None, None
        if self._without_images and self._grouper.roles.is_image(file.extension):
            return File(file.extension, None)
        try:
            data = None if file.is_too_large else self._bytes(file)
        except _Outside:
            fault = f"link to a file outside the folder ({utf8(file.name)})"
        except OSError as error:
            if (own := self._fault(error)) is None:
                raise
            fault = f"{own} ({utf8(file.name)})"
        return File(file.extension, data, fault=fault)

    def _bytes(self, file: FolderFile) -> bytes | None:
        path = file.path if self._root is None else self._inside(file.path)

        def fetch() -> bytes:
            if self.stopped:
                raise ShardError(f"{self._url}: abandoned")  # nobody waits for this file: stop trying
            # a start spares the question for the size; an empty object has no byte to start at
            data: bytes = self._storage.cat_file(path, start=0 if file.size else None)
            return data

        data = fetch() if self._root is not None else retry(fetch)
        return data if len(data) <= MAX_MEMBER else None

    def _inside(self, path: str) -> str:
        """The file that a path leads to, which must be in the folder: a link out of it could show any file."""
        assert self._root is not None
        target = os.path.realpath(path)
        if not Path(target).is_relative_to(self._root):
            raise _Outside
        return target

    def _fault(self, error: OSError) -> str | None:
        """What is wrong with this one file; None where it may be the storage. Raises ShardError where it is closed."""
        if isinstance(error, PermissionError):
            if self._root is not None:
                return "permission denied"
            raise ShardError(f"{self._url}: permission denied") from error  # credentials that ran out, most likely
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return "file is gone"
        if is_final(error) or (self._root is not None and error.errno in _ITS_OWN):
            return "file cannot be read"
        return None


class _Outside(Exception):
    """A link leads out of the folder."""
