"""Samples out of a folder of image files, each with the `.txt` and the `.json` of its stem, where there are such."""

from __future__ import annotations

import errno
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import fsspec

from ..errors import ShardError
from ..records import Sample, Shard
from ..storage.retry import is_final, retry
from ..storage.urls import open_storage, opening, scheme_of
from .grouping import IMAGE_EXTENSIONS, Group, utf8
from .tario import MAX_MEMBER

G = TypeVar("G", bound=Group)

_AT_ONCE = 16  # samples fetched at the same time: against latency
_AHEAD = 32  # samples fetched before they are asked for,
_AHEAD_BYTES = 64 << 20  # and bytes, as listed
_EXTENSIONS = IMAGE_EXTENSIONS | {"txt", "json"}

# Faults of one file. Others of local disks (too many open files, a server that is gone) are everybody's.
_ITS_OWN = (errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)


def is_image_name(name: str) -> bool:
    split = _split(name)
    return split is not None and split[1] in IMAGE_EXTENSIONS


def etag_of(files: Iterable[tuple[str, int | None, str | None]]) -> str:
    """Of a folder's files, given as (name, size, etag or modification time): changes when one that is read does."""
    lines = (f"{name}\0{size}\0{changed}\n" for name, size, changed in sorted(files, key=str) if _split(name))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def read_folder(shard: Shard, storage_options: Mapping[str, Any] | None) -> Iterator[Sample]:
    """See `shards.read_samples`. Every image is a sample, and so is every `.txt` that has no image; in order of their
    names, without the extension."""
    for row, group in enumerate(read_folder_groups(shard, Group, storage_options)):
        yield group.sample(row)


def read_folder_groups(shard: Shard, kind: type[G], storage_options: Mapping[str, Any] | None) -> Iterator[G]:
    """The same samples while they are still files, in order. kind: what collects those of one sample."""
    with opening(shard.url):
        storage = open_storage(shard.url, storage_options)
        found = _list(storage, shard.url)
    if not any(each.image for each in found):
        raise ShardError(f"{shard.url}: no image files in this folder")
    reader = _Reader(shard.url, storage)
    waiting: deque[tuple[_Files, Future[G]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="files")
    try:
        for files in found:
            while waiting and (len(waiting) >= _AHEAD or held + files.size > _AHEAD_BYTES):
                done, future = waiting.popleft()
                held -= done.size
                yield future.result()
            waiting.append((files, pool.submit(reader.read, files, kind)))
            held += files.size
        while waiting:
            yield waiting.popleft()[1].result()
    finally:
        reader.stopped = True
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _File:
    path: str  # as the storage calls it
    name: str
    extension: str  # lower-case
    size: int | None


@dataclass(slots=True)
class _Files:
    """Those of one sample."""

    stem: str
    image: _File | None = None
    beside: list[_File] = field(default_factory=list)

    @property
    def all(self) -> list[_File]:
        return [self.image, *self.beside] if self.image else self.beside

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.all if not _is_too_large(file))


def _split(name: str) -> tuple[str, str] | None:
    """A file's name -> stem, lower-cased extension. None for what is no part of a sample, such as hidden files.

    Other than in tars the extension begins at the last dot: names with several are anybody's here.
    """
    stem, _, extension = name.rpartition(".")
    if not stem or stem.startswith(".") or extension.lower() not in _EXTENSIONS:
        return None
    return stem, extension.lower()


def _is_too_large(file: _File) -> bool:
    return file.size is not None and file.size > MAX_MEMBER


def _list(storage: fsspec.AbstractFileSystem, url: str) -> list[_Files]:
    storage.invalidate_cache()
    infos: list[dict[str, Any]] = retry(lambda: storage.ls(url, detail=True))
    images: list[tuple[str, _File]] = []
    beside: dict[str, dict[str, _File]] = {}
    for info in sorted(infos, key=lambda info: str(info["name"])):
        name = info["name"].rpartition("/")[2]
        if (split := _split(name)) is None or not _is_file(storage, info):
            continue
        stem, extension = split
        file = _File(info["name"], name, extension, info.get("size"))
        if extension in IMAGE_EXTENSIONS:
            images.append((stem, file))
        else:
            beside.setdefault(stem, {}).setdefault(extension, file)
    samples = [_Files(stem, image, list(beside.get(stem, {}).values())) for stem, image in images]
    illustrated = {stem for stem, _ in images}
    samples += [
        _Files(stem, None, list(files.values()))
        for stem, files in beside.items()
        if stem not in illustrated and "txt" in files  # a json alone is about something else
    ]
    return sorted(samples, key=lambda files: (files.stem, files.image.name if files.image else ""))


def _is_file(storage: fsspec.AbstractFileSystem, info: Mapping[str, Any]) -> bool:
    """Of a link, what it leads to counts; one that leads nowhere is a file that cannot be read."""
    if not info.get("islink"):
        return bool(info["type"] == "file")
    try:
        return bool(storage.info(info["name"])["type"] == "file")
    except OSError:
        return True


class _Reader:
    """Reads the files of a sample, in any thread."""

    def __init__(self, url: str, storage: fsspec.AbstractFileSystem) -> None:
        self._url, self._storage = url, storage
        self._local = scheme_of(url) == "file"
        self.stopped = False

    def read(self, files: _Files, kind: type[G]) -> G:
        group = kind(utf8(files.stem))
        for file in files.all:
            self._add(file, group)
        return group

    def _add(self, file: _File, group: Group) -> None:
        try:
            group.add(file.extension, None if _is_too_large(file) else self._bytes(file))
        except OSError as error:
            if (fault := self._fault(error)) is None:
                raise
            group.error = group.error or f"read: {fault} ({utf8(file.name)})"

    def _bytes(self, file: _File) -> bytes | None:
        def fetch() -> bytes:
            if self.stopped:
                raise ShardError(f"{self._url}: abandoned")  # nobody waits for this; it ends the attempts
            # a start spares the question for the size; an empty object has no byte to start at
            data: bytes = self._storage.cat_file(file.path, start=0 if file.size else None)
            return data

        data = fetch() if self._local else retry(fetch)
        return data if len(data) <= MAX_MEMBER else None

    def _fault(self, error: OSError) -> str | None:
        """What is wrong with this one file; None where it may be the storage. Raises ShardError where it is closed."""
        if isinstance(error, PermissionError):
            if self._local:
                return "permission denied"
            raise ShardError(f"{self._url}: permission denied") from error  # credentials that ran out, most likely
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return "file is gone"
        if is_final(error) or (self._local and error.errno in _ITS_OWN):
            return "file cannot be read"
        return None
