"""Where a dataset goes: a local folder, or a prefix of an object store. Files appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from .errors import ClipmillError, InfrastructureError, OutputError
from .shards import canonical_url, open_storage, scheme_of

OWN = "_clipmill"  # the folder of everything that is no part; readers of Parquet pass over such names
_STAGING = f"{OWN}/staging"
_ABANDONED = 24 * 3600  # seconds, after which another machine's unfinished file is taken for abandoned


@dataclass(frozen=True)
class Output:
    """`url` is canonical. Cheap to send to workers."""

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> Output:
        return cls(canonical_url(url), dict(storage_options or {}))

    @property
    def is_local(self) -> bool:
        return scheme_of(self.url) == "file"

    def prepare(self) -> None:
        """Make the folder, see that it can be written to, and clear what crashed runs have left."""
        try:
            if self.is_local:
                self._local(_STAGING).mkdir(parents=True, exist_ok=True)
                _clear(self._local(_STAGING))
            probe = f"{OWN}/probe-{_host()}-{os.getpid()}"
            self.write(probe, b"")
            self.delete(probe)
        except ClipmillError:
            raise
        except Exception as error:
            raise OutputError(f"{self.url}: cannot be written to: {_reason(error)}") from error

    def names(self, folder: str = "") -> set[str]:
        """The files directly in a folder of the output."""
        where = f"{self.url}/{folder}".rstrip("/")
        try:
            storage = self._storage()
            storage.invalidate_cache()
            return {
                info["name"].rpartition("/")[2] for info in storage.ls(where, detail=True) if info["type"] == "file"
            }
        except FileNotFoundError:
            return set()
        except NotADirectoryError as error:
            raise OutputError(f"{where}: {_reason(error)}") from error

    def parts(self) -> set[str]:
        """Names of the committed parts."""
        return {name for name in self.names() if name.endswith(".parquet") and not name.startswith(("_", "."))}

    def read(self, name: str) -> bytes | None:
        """A file's contents, or None where there is none."""
        try:
            content: bytes = self._storage().cat_file(f"{self.url}/{name}")
            return content
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        with self.staged(name) as path:
            path.write_bytes(content)

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._storage().rm_file(f"{self.url}/{name}")

    @contextmanager
    def staged(self, name: str) -> Generator[Path, None, None]:
        """A local path to write to; leaving the context commits it as `name`, leaving through an exception does not."""
        if self.is_local:
            folder = self._local(_STAGING)  # on the same file system, so that the commit is one rename
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{_host()}.{os.getpid()}.{time.monotonic_ns()}.{Path(name).name}"
            try:
                yield path
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                target = self._local(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
            finally:
                path.unlink(missing_ok=True)
            return
        scratch = Path(tempfile.mkdtemp(prefix="clipmill-"))
        try:
            path = scratch / Path(name).name
            yield path
            self._storage().put_file(str(path), f"{self.url}/{name}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def open(self, name: str) -> Any:
        """A readable, seekable file."""
        return self._storage().open(f"{self.url}/{name}", "rb")

    def _storage(self) -> fsspec.AbstractFileSystem:
        try:
            return open_storage(self.url, self.storage_options)
        except (ValueError, ImportError) as error:
            raise OutputError(f"{self.url}: {error}") from error

    def _local(self, name: str) -> Path:
        return Path(self.url) / name


@contextmanager
def infrastructure(what: str) -> Generator[None, None, None]:
    """Failures of disks and stores, in our own words."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "there is a file where a folder should be"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _clear(staging: Path) -> None:
    """Remove unfinished files whose writer is gone: of this machine's by asking for the process, of others' by age."""
    for path in staging.iterdir():
        host, _, rest = path.name.partition(".")
        pid = rest.partition(".")[0]
        with suppress(OSError):
            if host == _host() and pid.isdecimal():
                if not _is_alive(int(pid)):
                    path.unlink()
            elif time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # no signal is sent
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _host() -> str:
    return socket.gethostname().partition(".")[0]
