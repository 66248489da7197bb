"""Samples out of a shard, as a stream: one sample in memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec

from .errors import InputError, ShardError
from .records import Sample, Shard
from .tario import MAX_MEMBER, Member, NotATar, TarDamage, members

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2"})

_KNOWN = IMAGE_EXTENSIONS | {"txt", "json"}
_READ_AHEAD = 8 << 20  # bytes a request to remote storage
_BUFFER = 1 << 20
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_ALIASES = {"local": "file", "gcs": "gs", "s3a": "s3"}


def read_samples(shard: Shard, storage_options: Mapping[str, Any] | None = None) -> Iterator[Sample]:
    """The samples of a shard in its own order, `row` counting from 0.

    A sample that cannot be read has an `error`; a shard that breaks off ends with one such sample. Raises ShardError
    for what is no shard at all, or may not be opened; a storage failure while reading goes through as it is, for
    whoever retries.
    """
    format = _format_of(shard.url)
    return (format.read if format else _read_tar)(shard, storage_options)  # who names a shard outright means it


def is_shard_name(url: str) -> bool:
    """Whether a name promises one of the formats read here."""
    return _format_of(url) is not None


def scheme_of(url: str) -> str:
    """`file` for local paths, however spelt."""
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else "file"
    return _ALIASES.get(scheme, scheme)


def canonical_url(text: str) -> str:
    """The one spelling of a path or URL. A part's name is a hash of its shard's URL, so it must not vary.

    Local files are plain absolute paths (no `file://`, `..` folded, links kept as named), everything else is
    `scheme://path` with one scheme a store (`gs`, not `gcs`; `s3`, not `s3a`). Raises InputError.
    """
    try:
        path = fsspec.get_filesystem_class(scheme_of(text))._strip_protocol(text)
    except (ValueError, ImportError) as error:
        raise InputError(f"{text}: {error} (built in: local paths, s3://, http(s)://, memory://)") from error
    return url_of(scheme_of(text), path)


def url_of(scheme: str, path: str) -> str:
    """A file system's own name of a file -> its canonical URL."""
    if scheme == "file":
        return os.path.normpath(path)
    return path if scheme.startswith("http") else f"{scheme}://{path.strip('/')}"


def open_storage(url: str, storage_options: Mapping[str, Any] | None = None) -> fsspec.AbstractFileSystem:
    """The file system that a URL is on; its methods take the URL as it is."""
    scheme = scheme_of(url)  # the options are meant for the object store, whatever else is read beside it
    return fsspec.filesystem(scheme, **(storage_options or {} if scheme != "file" else {}))


def _read_tar(shard: Shard, storage_options: Mapping[str, Any] | None) -> Iterator[Sample]:
    with _open(shard.url, storage_options) as file:
        magic = file.peek(2)[:2]
        if not magic:
            raise ShardError(f"{shard.url}: empty file")
        # by content, not by name: web servers like to unpack .gz files on the way
        compressed = magic == b"\x1f\x8b"
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file) if compressed else file)
        try:
            yield from _samples(stream, seekable=not compressed)
        except NotATar as error:
            raise ShardError(f"{shard.url}: not a tar: {error}") from error


def _open(url: str, storage_options: Mapping[str, Any] | None) -> io.BufferedReader:
    try:
        storage = open_storage(url, storage_options)
        if scheme_of(url) == "file":
            return io.BufferedReader(io.FileIO(storage._strip_protocol(url)), _BUFFER)
        # small reads are cheap in a BufferedReader and dear in fsspec's Python
        file = storage.open(url, "rb", block_size=_READ_AHEAD, cache_type="readahead")
        return io.BufferedReader(file, _BUFFER)
    except FileNotFoundError as error:
        raise ShardError(f"{url}: no such file") from error
    except IsADirectoryError as error:
        raise ShardError(f"{url}: a folder, not a file") from error
    except PermissionError as error:
        raise ShardError(f"{url}: permission denied") from error
    except (ValueError, ImportError) as error:
        raise ShardError(f"{url}: {error}") from error


def _samples(stream: BinaryIO, seekable: bool) -> Iterator[Sample]:
    """Groups adjacent members of one key; an extension that comes back begins the next sample of that key."""
    row = 0
    group: _Group | None = None
    try:
        for member in members(stream):
            if (named := _split(member.name)) is None:
                continue
            if group is not None and not group.takes(*named):
                if group.is_sample():
                    yield group.sample(row)
                    row += 1
                group = None
            group = group or _Group(named[0])
            group.add(named[1], member, seekable)
    except TarDamage as damage:
        broken = _split(damage.name or "")
        # a break inside one of its own members takes the sample along; it is the failed row then
        if group is not None and group.is_sample() and not (broken and group.takes(*broken)):
            yield group.sample(row)
            row += 1
        yield Sample(row, broken[0] if broken else "", error=f"read: truncated tar ({damage.reason})")
        return
    if group is not None and group.is_sample():
        yield group.sample(row)


def _split(name: str) -> tuple[str, str] | None:
    """A member's name -> key, lower-cased extension (WebDataset: from the first dot of the last path component on).

    None for what is no part of a sample: no extension, hidden files, and what macOS adds to archives.
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or "__MACOSX" in folder.split("/"):
        return None
    key = folder + slash + stem
    # keys become Parquet strings, which must be UTF-8: other bytes are spelt out
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), extension.lower()


@dataclass(slots=True)
class _Group:
    """The members of one sample, as they come."""

    key: str
    extensions: set[str] = field(default_factory=set)
    image: bytes | None = None
    image_offset: int | None = None
    caption: bytes | str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def takes(self, key: str, extension: str) -> bool:
        return key == self.key and extension not in self.extensions

    def is_sample(self) -> bool:
        return not self.extensions.isdisjoint(_KNOWN)

    def add(self, extension: str, member: Member, seekable: bool) -> None:
        first_image = extension in IMAGE_EXTENSIONS and self.extensions.isdisjoint(IMAGE_EXTENSIONS)
        self.extensions.add(extension)
        if not first_image and extension not in ("txt", "json"):
            return
        if member.data is None:
            self.error = f"read: {'image' if first_image else extension} larger than {MAX_MEMBER >> 20} MiB"
        elif extension == "txt":
            self.caption = member.data
        elif extension == "json":
            try:
                self.metadata = _parse_json(member.data)
            except (ValueError, RecursionError):
                self.error = "read: json is not valid"  # or the selected columns would be null without a word
        else:
            self.image, self.image_offset = member.data, member.offset if seekable else None

    def sample(self, row: int) -> Sample:
        caption = self.caption
        if "txt" not in self.extensions and isinstance(text := self.metadata.get("caption"), str):
            caption = text
        return Sample(row, self.key, self.image, caption, self.metadata, self.image_offset, self.error)


def _parse_json(data: bytes) -> dict[str, Any]:
    """An object's fields. Raises ValueError for anything else."""
    text = data.decode("utf-8-sig")
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError("not an object")
    return cast(dict[str, Any], _without_surrogates(metadata)) if "\\u" in text else metadata


def _without_surrogates(value: Any) -> Any:
    """JSON's escapes can spell half a surrogate pair, which no Parquet string can hold."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return [_without_surrogates(v) for v in value] if isinstance(value, list) else value


class _Format(NamedTuple):
    suffixes: tuple[str, ...]
    read: Callable[[Shard, Mapping[str, Any] | None], Iterator[Sample]]


# A further input format is a row here. Parquet also needs the rule that img2dataset's sidecar beside a tar is no
# input of its own.
_FORMATS = (_Format((".tar", ".tar.gz", ".tgz"), _read_tar),)


def _format_of(url: str) -> _Format | None:
    name = url.partition("?")[0] if url.startswith("http") else url
    return next((format for format in _FORMATS if name.lower().endswith(format.suffixes)), None)
