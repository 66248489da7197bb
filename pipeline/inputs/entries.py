"""Files and folders as a storage lists them, and the errors that it may raise instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import fsspec

from ..errors import InfrastructureError, InputError, one_line
from ..storage.urls import is_web, scheme_of
from .folder_files import is_image_name
from .shards import is_shard_name


class Entry(NamedTuple):
    """A file or folder, as the storage lists it."""

    url: str
    is_folder: bool
    size: int | None = None
    etag: str | None = None
    is_sidecar: bool = False  # a table beside a tar; an input only if it is named itself

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]

    def matches(self, pattern: str = "*") -> bool:
        """Whether the last part of the name does; `_x` and `.x` only where the pattern begins so too."""
        return fnmatchcase(self.name, pattern) and (pattern[:1] in ("_", ".") or not self.name.startswith(("_", ".")))

    def is_shard(self) -> bool:
        return not self.is_folder and not self.is_sidecar and is_shard_name(self.url)

    def is_image(self) -> bool:
        return not self.is_folder and is_image_name(self.name)


class NoSuchInput(InputError): ...


class DeniedInput(InputError): ...


def listed(storage: fsspec.AbstractFileSystem, url: str) -> list[dict[str, Any]]:
    """What is directly in a folder. One that ends with `//` is the part of an object store's keys between both."""
    if not url.endswith("//") or scheme_of(url) == "file":
        infos: list[dict[str, Any]] = storage.ls(url.rstrip("/") + "/", detail=True)
        return infos
    if not hasattr(storage, "call_s3"):
        raise InputError(f"{url}: folders without a name cannot be listed here; name the files one by one")
    folder = storage._strip_protocol(url)
    below = storage.find(folder, prefix="/", detail=True)  # clients take the slash at a name's end for nothing
    return [info for name, info in below.items() if "/" not in name.removeprefix(f"{folder}//")]


@contextmanager
def asking(url: str) -> Iterator[None]:
    """InputError or InfrastructureError, in one line, for whatever a storage client raises."""
    try:
        yield
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{url}: a list of inputs must be UTF-8 text") from error
    except Exception as error:
        cause = error.__cause__ or error if is_web(url) else error  # on the web, all is FileNotFoundError
        status = getattr(cause, "status", None)
        if isinstance(cause, (FileNotFoundError, NotADirectoryError)) or status == 404:
            raise NoSuchInput(f"{url}: no such file or folder; check its spelling") from error
        if isinstance(cause, IsADirectoryError):
            raise InputError(f"{url}: is a folder; name a file") from error
        if isinstance(cause, PermissionError) or status in (401, 403) or "Credentials" in type(cause).__name__:
            raise DeniedInput(f"{url}: permission denied; check its access rights or your credentials") from error
        raise InfrastructureError(f"{url}: the storage does not answer: {one_line(cause)}") from error


def etag_of(info: Mapping[str, Any]) -> str | None:
    """A text that changes when the content does: the store's own tag, or modification time and size."""
    tag = next(filter(None, map(info.get, ("ETag", "etag", "Content-MD5", "md5Hash"))), None)
    changed = next(filter(None, map(info.get, ("mtime", "LastModified", "Last-Modified", "created"))), None)
    changed = changed.timestamp() if isinstance(changed, datetime) else changed
    return str(tag).strip('"') if tag else f"{changed}-{info.get('size')}" if changed else None
