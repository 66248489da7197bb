"""URLs of files and folders: one spelling for each, and the file system that it is on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec

from ..errors import InputError, ShardError
from ..redaction import redacted_text
from .defaults import with_defaults

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_ALIASES = {"local": "file", "gcs": "gs", "s3a": "s3"}


def scheme_of(url: str) -> str:
    """`file` for local paths, however spelt."""
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else "file"
    return _ALIASES.get(scheme, scheme)


def is_web(url: str) -> bool:
    """http(s): listings come from index pages, and servers may know neither sizes nor byte ranges."""
    return scheme_of(url).startswith("http")


def canonical_url(text: str) -> str:
    """The one spelling of a path or URL. A part's name is a hash of its shard's URL, so it must not vary.

    Local files are plain absolute paths (no `file://`, `..` folded, links kept as named), everything else is
    `scheme://path` with one scheme a store (`gs`, not `gcs`; `s3`, not `s3a`). Raises InputError, also for a URL with a
    password or a signature in it: URLs are kept in plans, parts and subsets, and shown.
    """
    if scheme := _SCHEME.match(text):
        text = scheme[0].lower() + text[scheme.end() :]
    if scheme_of(text) != "file" and (shown := redacted_text(text)) != text:
        raise InputError(
            f"{shown}: the dataset would keep the password or signature in this URL; give it by --storage-option or in "
            "the environment"
        )
    try:
        path = fsspec.get_filesystem_class(scheme_of(text))._strip_protocol(text)
    except (ValueError, ImportError) as error:
        raise InputError(f"{text}: {error} (built in: local paths, s3://, http(s)://, memory://)") from error
    return url_of(scheme_of(text), path)


def url_of(scheme: str, path: str) -> str:
    """The canonical URL of a file, from its file system's own name for it."""
    if scheme == "file":
        return os.path.normpath(path).replace("//", "/", 1)  # normpath leaves two slashes at the beginning
    return path if scheme.startswith("http") else f"{scheme}://{path.strip('/')}"


def open_storage(url: str, storage_options: Mapping[str, Any] | None = None) -> fsspec.AbstractFileSystem:
    """The file system that a URL is on; its methods take the URL as it is."""
    scheme = scheme_of(url)
    if scheme == "file":  # options are for the object store
        return fsspec.filesystem(scheme)
    options = with_defaults(scheme, storage_options or {})
    if scheme != "s3":
        return fsspec.filesystem(scheme, **options)
    from .paced_s3 import PacedS3  # here, as its client takes a while

    return PacedS3(**options)


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Raise ShardError for a shard that does not exist or cannot be opened. Temporary errors go through unchanged."""
    try:
        yield
    except FileNotFoundError as error:
        raise ShardError(f"{url}: no such file or folder") from error
    except IsADirectoryError as error:
        raise ShardError(f"{url}: this is a folder, not a file") from error
    except NotADirectoryError as error:
        raise ShardError(f"{url}: this is a file, not a folder") from error
    except PermissionError as error:
        raise ShardError(f"{url}: permission denied") from error
    except (ValueError, ImportError) as error:
        raise ShardError(f"{url}: {error}") from error
