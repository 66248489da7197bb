"""Samples out of a WebDataset tar, as a stream: one sample in memory."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, TypeVar, cast

from ..errors import ShardError
from ..records import Sample, Shard
from ..storage.remote import RemoteFile
from ..storage.urls import is_web, open_storage, opening, scheme_of
from .grouping import Group, utf8
from .tario import NotATar, TarDamage, members

G = TypeVar("G", bound=Group)

_READ_AHEAD = 8 << 20  # bytes a request to a web server
_BUFFER = 1 << 20


def read_tar(shard: Shard, storage_options: Mapping[str, Any] | None) -> Iterator[Sample]:
    """See `shards.read_samples`."""
    for row, group in enumerate(read_tar_groups(shard, Group, storage_options)):
        yield group.sample(row)


def read_tar_groups(shard: Shard, kind: type[G], storage_options: Mapping[str, Any] | None) -> Iterator[G]:
    """The same samples while they are still files, in order. kind: what collects those of one sample."""
    with _open(shard, storage_options) as file:
        with opening(shard.url):  # of remote files, only the first read tells whether they are there
            magic = file.peek(2)[:2]
        if not magic:
            raise ShardError(f"{shard.url}: empty file")
        # by content, not by name: web servers like to unpack .gz files on the way
        compressed = magic == b"\x1f\x8b"
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file) if compressed else file)
        try:
            yield from groups_in(stream, kind, None if compressed else 0)
        except NotATar as error:
            raise ShardError(f"{shard.url}: not a tar: {error}") from error


def _open(shard: Shard, storage_options: Mapping[str, Any] | None) -> io.BufferedReader:
    """Buffered, since small reads are cheap there, and dear in fsspec's Python."""
    url = shard.url
    with opening(url):
        storage = open_storage(url, storage_options)
        if scheme_of(url) == "file":
            return io.BufferedReader(io.FileIO(storage._strip_protocol(url)), _BUFFER)
        size = None if is_web(url) else shard.size
        if size is None and not is_web(url):
            info = storage.info(url)
            if info["type"] == "directory":
                raise IsADirectoryError
            size = info.get("size")
        if size is not None:
            return io.BufferedReader(RemoteFile(storage, url, size), _BUFFER)
        return io.BufferedReader(storage.open(url, "rb", block_size=_READ_AHEAD, cache_type="readahead"), _BUFFER)


def groups_in(stream: BinaryIO, kind: type[G], start: int | None) -> Iterator[G]:
    """Groups adjacent members of one key; an extension that comes back begins the next sample of that key.

    stream: an archive from a member's first header on, which is at byte `start` of it; None where nobody can seek. A
    stream that breaks off ends with a group that has an `error`, and the key where that much could be read.
    """
    group: G | None = None
    try:
        for member in members(stream):
            if (named := _split(member.name)) is None:
                continue
            if group is not None and not group.takes(*named):
                if group.is_sample():
                    yield group
                group = None
            group = group or kind(named[0])
            group.add(named[1], member.data, None if start is None else start + member.offset)
    except TarDamage as damage:
        broken = _split(damage.name or "")
        # a break inside one of its own members takes the sample along; it is the failed row then
        if group is not None and group.is_sample() and not (broken and group.takes(*broken)):
            yield group
        yield kind(broken[0] if broken else "", error=f"read: truncated tar ({damage.reason})")
        return
    if group is not None and group.is_sample():
        yield group


def _split(name: str) -> tuple[str, str] | None:
    """A member's name -> key, lower-cased extension (WebDataset: from the first dot of the last path component on).

    None for what is no part of a sample: no extension, hidden files, and what macOS adds to archives.
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or "__MACOSX" in folder.split("/"):
        return None
    return utf8(folder + slash + stem), extension.lower()
