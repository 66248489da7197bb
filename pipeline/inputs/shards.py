"""Samples out of a shard, as a stream, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..choices import USUAL_KEYS, SampleKeys
from ..records import Sample, Shard
from ..storage.holes import Range
from ..storage.urls import is_web
from .folder_input import read_folder
from .from_table import as_files
from .grouping import SampleFiles
from .parquet_input import read_parquet
from .tar_input import read_tar

_Options = Mapping[str, Any] | None


class _Format(NamedTuple):
    suffixes: tuple[str, ...]  # of the URL
    read: Callable[[Shard, _Options, SampleKeys], Iterator[Sample]]
    read_files: Callable[[Shard, _Options, SampleKeys], Iterator[SampleFiles]]


def _read_tar(shard: Shard, options: _Options, keys: SampleKeys) -> Iterator[Sample]:
    return _numbered(read_tar(shard, options, keys, every_file=False))


def _read_tar_files(shard: Shard, options: _Options, keys: SampleKeys) -> Iterator[SampleFiles]:
    return read_tar(shard, options, keys, every_file=True)


def _read_folder(shard: Shard, options: _Options, keys: SampleKeys) -> Iterator[Sample]:
    return _numbered(read_folder(shard, options, keys))


def _read_parquet_files(shard: Shard, options: _Options, keys: SampleKeys) -> Iterator[SampleFiles]:
    return map(as_files, read_parquet(shard, options, keys))


def _numbered(files: Iterable[SampleFiles]) -> Iterator[Sample]:
    for row, group in enumerate(files):
        yield group.sample(row)


_TAR = _Format((".tar", ".tar.gz", ".tgz"), _read_tar, _read_tar_files)
_PARQUET = _Format((".parquet",), read_parquet, _read_parquet_files)
_FOLDER = _Format(("/",), _read_folder, read_folder)
_FORMATS = (_TAR, _PARQUET, _FOLDER)  # a further input format is a row here


def read_samples(
    shard: Shard, storage_options: Mapping[str, Any] | None = None, keys: SampleKeys = USUAL_KEYS
) -> Iterator[Sample]:
    """The samples of a shard in its own order, `row` counting from 0. keys: where images and captions are, if not
    under the usual names.

    A sample that cannot be read has an `error`; a shard that breaks off ends with one such sample. Raises ShardError
    for a file that is not a shard, for a shard that cannot be opened, and at the end of one in which no sample was
    understood; a storage failure while reading goes through as it is, for whoever retries.
    """
    format = _format_of(shard.url) or _TAR  # a shard that is named outright is read whatever its name
    return format.read(shard, storage_options, keys)


def read_files(
    shard: Shard, storage_options: Mapping[str, Any] | None = None, keys: SampleKeys = USUAL_KEYS
) -> Iterator[SampleFiles]:
    """The same samples with all files that belong to them, byte for byte; of Parquet, files with the same contents."""
    format = _format_of(shard.url) or _TAR
    return format.read_files(shard, storage_options, keys)


def read_fields(
    shard: Shard,
    fields: Sequence[str],
    storage_options: Mapping[str, Any] | None = None,
    keys: SampleKeys = USUAL_KEYS,
    images: Sequence[Range] = (),
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Of the same samples, key and metadata, with these fields at least; no image is read. images: where they are in
    the shard, as far as is known. Of tars that are compressed, or on servers that give no ranges, all is read."""
    format = _format_of(shard.url) or _TAR
    if format is _PARQUET:
        return ((sample.key, sample.metadata) for sample in read_parquet(shard, storage_options, keys, fields))
    if format is _FOLDER:
        files = read_folder(shard, storage_options, keys, without_images=True)
    else:
        files = read_tar(shard, storage_options, keys, every_file=False, images=images)
    return ((group.key, group.metadata) for group in files)


def is_parquet(url: str) -> bool:
    return _format_of(url) is _PARQUET


def is_shard_name(url: str) -> bool:
    """Whether a file's name promises one of the formats read here."""
    return _format_of(url) not in (None, _FOLDER)


def sidecars(urls: Iterable[str]) -> set[str]:
    """Of the files in one folder, img2dataset's tables: `00000.parquet` beside `00000.tar` lists that tar's rows."""
    files = list(urls)
    tables = [url for url in files if _format_of(url) is _PARQUET]
    tars = {_stem(url) for url in files if _format_of(url) is _TAR} if tables else set()
    return {url for url in tables if _stem(url) in tars}


def _format_of(url: str) -> _Format | None:
    name = _name(url).lower()
    return next((format for format in _FORMATS if name.endswith(format.suffixes)), None)


def _stem(url: str) -> str:
    name = _name(url)
    suffixes = [suffix for format in _FORMATS for suffix in format.suffixes if name.lower().endswith(suffix)]
    return name[: -len(max(suffixes, key=len))] if suffixes else name


def _name(url: str) -> str:
    return url.partition("?")[0] if is_web(url) else url
