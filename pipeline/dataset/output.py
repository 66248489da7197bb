"""Where a dataset goes: a local folder, or a prefix of an object store. Files appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from ..errors import ClipmillError, InfrastructureError, OutputError, StorageFullError, one_line
from ..records import Shard
from ..storage import staging, store
from ..storage.listing import Entries, Stamped, entries, stamped
from ..storage.local_files import move, move_new
from ..storage.ranges import opened
from ..storage.retry import ATTEMPTS, FULL, already_exists, error_code, is_final, is_full, retry
from ..storage.urls import canonical_url, open_storage, scheme_of
from .layout import DATA, EARLIER, OWN, is_own, is_part, moved, part_path

T = TypeVar("T")

_STAGING = f"{OWN}/staging"
_PROBE = f"{OWN}/probe"
_MANY = 5_000  # shards, whose parts take several requests to list
_RANGES = 32
_AT_FIRST = 4  # attempts at the beginning, while somebody waits who may have mistyped the endpoint


@dataclass(frozen=True)
class Output:
    """`url` is canonical. Cheap to send to workers.

    Raises OutputError where the user has to do something (the bucket, the folder, the rights), and InfrastructureError
    when an object store keeps failing. A local disk's OSErrors go through.
    """

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    conditional: bool = False  # whether the store is known to honour "only if there is none"

    @classmethod
    def at(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> Output:
        return cls(canonical_url(url), dict(storage_options or {}))

    @property
    def is_local(self) -> bool:
        return scheme_of(self.url) == "file"

    def prepare(self) -> Output:
        """Check that files can be written, and delete the leftovers of crashed runs. Returns this output with what is
        known of the store by then, for the workers."""
        try:
            if self.is_local:
                self.refuse_earlier()  # before the folder is made that theirs is to become
                self._local(_STAGING).mkdir(parents=True, exist_ok=True)
                staging.clear(self._local(_STAGING))
            else:
                staging.scratch()
            self._write(_PROBE, b"", _AT_FIRST)  # always by the same name: if we die here, the next run clears it
            prepared = self if self.is_local else replace(self, conditional=self._ask_for_conditions())
            self.delete(_PROBE)
            if not self.is_local:
                self.refuse_earlier()
        except ClipmillError:
            raise
        except Exception as error:
            raise OutputError(f"{self.url}: cannot be written to: {_reason(error)}") from error
        return prepared

    def clear_uploads(self, is_own: Callable[[str], bool]) -> None:
        """End the half-finished uploads of killed runs. is_own: whether a file of that name is to be ended."""
        if not self.is_local:
            store.abort_uploads(self._storage(), self.url, is_own)

    def refuse_earlier(self) -> None:
        """OutputError, with the commands that move it, for an output of clipmill before parts had their own folder."""
        if self._entries(EARLIER):
            raise OutputError(moved(self.url, self.names(), self.read(f"{EARLIER}/step.json")))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The files directly in a folder of the output, and how many bytes each has."""
        return {name: size for name, size in self._entries(folder).items() if size is not None}

    def _entries(self, folder: str, boundaries: Sequence[str] = ()) -> Entries:
        """What lies directly in a folder of the output."""
        return self._listed(folder, lambda storage, where: entries(storage, where, boundaries))

    def _listed(self, folder: str, files: Callable[[fsspec.AbstractFileSystem, str], dict[str, T]]) -> dict[str, T]:
        where = f"{self.url}/{folder}".rstrip("/")
        try:
            return self._call(lambda storage: files(storage, where), "cannot be listed")
        except FileNotFoundError:
            return {}
        except NotADirectoryError as error:
            raise OutputError(f"{where}: {_reason(error)}") from error

    def stamped(self, folder: str = "") -> dict[str, Stamped]:
        """The same, and what changes when they do."""
        return self._listed(folder, stamped)

    def url_of(self, part: str) -> str:
        """Of a part."""
        return f"{self.url}/{part_path(part)}"

    def names(self, folder: str = "") -> set[str]:
        """The files directly in a folder of the output."""
        return set(self.sizes(folder))

    def part_sizes(self, shards: Sequence[Shard] = ()) -> dict[str, int]:
        """The committed parts, and how many bytes each has. shards: those that are known to be planned; where there are
        many, their parts are listed in several ranges at once."""
        some = shards[:: len(shards) // _RANGES] if len(shards) >= _MANY else ()
        sizes = self._entries(DATA, sorted(shard.part_name for shard in some))
        return {name: size for name, size in sizes.items() if size is not None and is_part(name)}

    def parts(self, shards: Sequence[Shard] = ()) -> set[str]:
        """Names of the committed parts. shards: see `part_sizes`."""
        return set(self.part_sizes(shards))

    def strangers(self) -> set[str]:
        """Parquet files where a new output would have its parts, or beside them: paths."""
        return {part_path(name) for name in self.parts()} | {name for name in self.names() if is_part(name)}

    def read(self, name: str) -> bytes | None:
        """A file's contents, or None where there is none."""
        try:
            return self._call(lambda storage: cast(bytes, storage.cat_file(self._url(name))), "cannot be read")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def modified(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970 by the store's clock; None where that is not told."""
        try:
            return self._call(lambda storage: float(storage.modified(self._url(name)).timestamp()), "cannot be read")
        except (FileNotFoundError, NotImplementedError):
            return None

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop` of a file, which must be that long."""

        def fetch(storage: fsspec.AbstractFileSystem) -> bytes:
            data: bytes = storage.cat_file(self._url(name), start=start, end=stop)
            if len(data) < stop - start:
                raise OSError(f"{self._url(name)}: {len(data)} bytes of {stop - start} at {start}")
            return data

        return self._call(fetch, "cannot be read")

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file, and replaces one of that name."""
        self._write(name, content, ATTEMPTS)

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one of that name. False where there was one: then read it, since it may be this
        call's own, where the store's answer got lost. Of several calls at once one wins, where the store is able to."""

        def put(storage: fsspec.AbstractFileSystem) -> bool:
            try:
                storage.pipe_file(self._url(name), content, mode="create")
            except Exception as error:
                if already_exists(error):
                    return False
                raise
            return True

        if self.is_local:
            return self._link(name, content)
        if not self.conditional and self.read(name) is not None:
            return False
        if not self.conditional:
            self.write(name, content)
            return True
        try:
            return self._call(put, "cannot be written to")
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._call(lambda storage: storage.rm_file(self._url(name)), "cannot be deleted from")

    @contextmanager
    def staged(self, name: str, replace: bool = False) -> Generator[Path, None, None]:
        """A local path to write to; leaving the context commits it as `name`, leaving through an exception does not.

        A part that is there already may stay as it is, since it was made from the same shard in the same way. With
        `replace` it becomes this one.
        """
        with self._unfinished(name) as path:
            yield path
            if self.is_local:
                move(path, self._local(name))
            else:
                self._put(path, name, create=self.conditional and not replace)

    def open(self, name: str, size: int | None = None) -> BinaryIO:
        """A readable, seekable file. size: in bytes, where it is known; else it takes a request."""
        if self.is_local:
            return self._local(name).open("rb")
        url = self._url(name)
        size = size or self._call(lambda storage: int(storage.info(url)["size"]), "cannot be read")
        return opened(self._storage(), url, size)

    def _write(self, name: str, content: bytes, attempts: int) -> None:
        if self.is_local:
            with self.staged(name) as path:
                path.write_bytes(content)
            return
        try:
            self._call(lambda storage: storage.pipe_file(self._url(name), content), "cannot be written to", attempts)
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    @contextmanager
    def _unfinished(self, name: str) -> Generator[Path, None, None]:
        """A path for a file that becomes `name`. StorageFullError where there is no room for it."""
        # one file system: one rename commits
        folder = self._local(_STAGING) if self.is_local else staging.scratch()
        path = staging.unfinished(folder, name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield path
        except OSError as error:
            if is_full(error):
                raise self._full(error, self.url if self.is_local else str(folder)) from error
            raise
        finally:
            path.unlink(missing_ok=True)

    def _link(self, name: str, content: bytes) -> bool:
        with self._unfinished(name) as path:
            path.write_bytes(content)
            return move_new(path, self._local(name))

    def _put(self, path: Path, name: str, create: bool) -> None:
        path.stat()  # fails here for a file that was never written, which would else be taken for a missing bucket
        try:
            self._call(
                lambda storage: store.put_file(storage, path, self._url(name), create=create),
                "cannot be written to",
                attempts=1,  # it tries again itself
            )
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def _ask_for_conditions(self) -> bool:
        storage = self._storage()
        self.clear_uploads(is_own)
        return store.honours_create(storage, self._url(_PROBE))

    def _call(self, call: Callable[[fsspec.AbstractFileSystem], T], failed: str, attempts: int = ATTEMPTS) -> T:
        """The result of a call of the storage. FileNotFoundError goes through: callers know its meaning."""
        storage = self._storage()
        if self.is_local:
            return call(storage)
        try:
            return retry(lambda: call(storage), attempts)
        except (ClipmillError, FileNotFoundError, MemoryError, TypeError):
            raise
        except Exception as error:
            if is_full(error):
                raise self._full(error, self.url) from error
            if is_final(error):
                raise OutputError(f"{self.url}: {failed}: {_reason(error)}") from error
            raise InfrastructureError(f"{self.url}: {failed}: the storage keeps failing: {_reason(error)}") from error

    def _full(self, error: Exception, place: str) -> StorageFullError:
        number = getattr(error, "errno", None)
        reason = os.strerror(number).lower() if number in FULL else _reason(error)  # Arrow has words of its own for it
        return StorageFullError(f"{place}: {reason}; make room, then run the same command to go on")

    def _no_bucket(self) -> OutputError:
        bucket = "/".join(self.url.split("/")[:3])
        return OutputError(f"{self.url}: cannot be written to: there is no {bucket}; create it, or correct the URL")

    def _storage(self) -> fsspec.AbstractFileSystem:
        try:
            return open_storage(self.url, self.storage_options)
        except (ValueError, ImportError) as error:
            raise OutputError(f"{self.url}: {error}") from error

    def _url(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _local(self, name: str) -> Path:
        return Path(self.url) / name


def _reason(error: Exception) -> str:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "there is a file where a folder should be"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, PermissionError):  # as stores' clients raise it, often without a word
        return "permission denied; check its access rights or your credentials"
    return one_line(error.__cause__ if error_code(error) and error.__cause__ else error)
