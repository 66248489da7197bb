"""Samples out of a shard, as a stream, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..records import Sample, Shard
from ..storage.urls import is_web
from .folder_input import read_folder, read_folder_groups
from .grouping import WholeGroup
from .parquet_input import read_parquet
from .tar_input import read_tar, read_tar_groups

_Options = Mapping[str, Any] | None


class _Format(NamedTuple):
    suffixes: tuple[str, ...]  # of the URL
    read: Callable[[Shard, _Options], Iterator[Sample]]
    read_files: Callable[[Shard, _Options], Iterator[WholeGroup]]


_TAR = _Format((".tar", ".tar.gz", ".tgz"), read_tar, lambda shard, how: read_tar_groups(shard, WholeGroup, how))
_PARQUET = _Format((".parquet",), read_parquet, lambda shard, how: map(WholeGroup.of, read_parquet(shard, how)))
_FOLDER = _Format(("/",), read_folder, lambda shard, how: read_folder_groups(shard, WholeGroup, how))
_FORMATS = (_TAR, _PARQUET, _FOLDER)  # a further input format is a row here


def read_samples(shard: Shard, storage_options: Mapping[str, Any] | None = None) -> Iterator[Sample]:
    """The samples of a shard in its own order, `row` counting from 0.

    A sample that cannot be read has an `error`; a shard that breaks off ends with one such sample. Raises ShardError
    for what is no shard at all, or may not be opened; a storage failure while reading goes through as it is, for
    whoever retries.
    """
    format = _format_of(shard.url) or _TAR  # who names a shard outright means it
    return format.read(shard, storage_options)


def read_files(shard: Shard, storage_options: Mapping[str, Any] | None = None) -> Iterator[WholeGroup]:
    """The same samples with all files that belong to them, byte for byte; of Parquet, files that say the same."""
    format = _format_of(shard.url) or _TAR
    return format.read_files(shard, storage_options)


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
