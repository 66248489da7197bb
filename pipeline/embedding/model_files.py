"""A model's weights on every machine of a cluster: where the driver has them, or as copies of what it has."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from ...clipmodel import models
from ...clipmodel.download import Progress, cache_folder, sha256_of
from ...clipmodel.hub_configs import files_beside
from ...clipmodel.remembered import remembered_sha256
from ...clipmodel.resolve import Resolved
from ..errors import ClipmillError, ModelError, one_line
from ..storage.retry import retry
from ..storage.urls import canonical_url, open_storage


class Copies(Protocol):
    """Files of the driver that other machines can get."""

    @property
    def names(self) -> list[str]: ...

    def write(self, name: str, path: Path) -> None: ...


@dataclass(frozen=True)
class ModelFiles:
    """Weights that one machine has found. Cheap to send to others, which have the same files, get copies, or find them
    for themselves."""

    spec: str  # as the user named it
    resolved: Resolved
    state: tuple[tuple[int, ...], ...]  # of the files on that machine: what differs where files are others
    key: str  # of their contents, of the settings beside them, too
    copies: Copies | None = None

    @classmethod
    def of(cls, spec: str, resolved: Resolved) -> ModelFiles:
        settings = [path.read_bytes() for path in _settings(resolved)]
        if resolved.packed is not None:
            settings.append(resolved.packed.sha256.encode())
        key = hashlib.sha256(b"\0".join([str(resolved.sha256).encode(), *settings])).hexdigest()[:16]
        return cls(spec, resolved, _state(resolved), key)

    @property
    def needed(self) -> tuple[Path, ...]:
        """All files that the model is made of."""
        return (*self.resolved.files, *_settings(self.resolved))

    def here(self, storage_options: Mapping[str, Any] | None = None) -> Resolved:
        """The same weights on the machine that asks. ModelError where it cannot have them."""
        if self._are_here():
            return self.resolved
        if self.copies is not None:
            return self._copied(self.copies)
        try:
            resolved = find_model(self.spec, storage_options).resolved
        except ModelError as error:
            raise ModelError(
                f"{error}: a worker's machine cannot read them; put the weights where all machines see them, such as "
                "NAME=s3://bucket/weights.safetensors"
            ) from error
        if resolved.sha256 != self.resolved.sha256:
            raise ModelError(
                f"{self.spec}: a worker's machine finds other weights than the driver; name weights that are the same "
                "on all machines"
            )
        return resolved

    def _are_here(self) -> bool:
        """Files of the same state are the driver's own, on its machine or a disk that both see; others are hashed."""
        if not all(path.is_file() for path in self.resolved.files):
            return False
        return _state(self.resolved) == self.state or remembered_sha256(self.resolved.files) == self.resolved.sha256

    def _copied(self, copies: Copies) -> Resolved:
        """Once a machine, whichever of its workers is the first."""
        folder = cache_folder() / "copies" / self.key
        files = tuple(folder / path.name for path in self.resolved.files)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():
                    part = folder.with_name(f"{folder.name}.part")
                    shutil.rmtree(part, ignore_errors=True)
                    part.mkdir()
                    for name in copies.names:
                        copies.write(name, part / name)
                    if (sha256 := sha256_of(part / path.name for path in files)) != self.resolved.sha256:
                        raise ModelError(f"{self.spec}: the copy has sha256 {sha256}, not {self.resolved.sha256}")
                    part.replace(folder)
        except OSError as error:
            reason = error.strerror or error
            raise ModelError(f"cannot write {folder}: {reason}; set CLIPMILL_CACHE to a folder with room") from error
        return replace(self.resolved, files=files)


def _settings(resolved: Resolved) -> tuple[Path, ...]:
    """Those beside the weights, where they count."""
    return files_beside(resolved.files[0].parent) if resolved.files and resolved.packed is None else ()


def _state(resolved: Resolved) -> tuple[tuple[int, ...], ...]:
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in resolved.files))


def find_model(
    spec: str, storage_options: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> ModelFiles:
    """As `models.resolve`; and weights at a URL, `NAME=s3://bucket/weights.safetensors`, go into the cache first."""
    before, separator, after = spec.partition("://")
    if not separator:
        return ModelFiles.of(spec, models.resolve(spec, progress=progress))
    name, equals, scheme = before.rpartition("=")
    url = f"{scheme}{separator}{after}"
    return ModelFiles.of(spec, models.resolve(f"{name}{equals}{fetched(url, storage_options)}", progress=progress))


def fetched(url: str, storage_options: Mapping[str, Any] | None) -> Path:
    """The local copy of an object, made once for each content that it has had."""
    try:
        storage, where = open_storage(url, storage_options), canonical_url(url)
        info = retry(lambda: storage.info(where))
        version = "\0".join(str(info.get(key)) for key in ("name", "size", "ETag", "etag", "mtime", "LastModified"))
        folder = cache_folder() / "urls" / hashlib.sha256(version.encode()).hexdigest()[:16]
        target = folder / where.rpartition("/")[2]
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                part = target.with_name(f"{target.name}.part")
                retry(lambda: storage.get_file(where, str(part)))
                part.replace(target)
    except ClipmillError:
        raise
    except Exception as error:  # storage clients raise what they like
        raise ModelError(
            f"{url}: cannot be read: {one_line(error)}; check its spelling and your access rights"
        ) from error
    return target
