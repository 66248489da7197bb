"""A model's weights on every machine of a cluster: of a release, on shared disks, or in object storage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ...clipmodel import weights
from ...clipmodel.download import Progress, cache_folder
from ...clipmodel.weights import Resolved
from ..errors import ClipmillError, ModelError, one_line
from ..storage.retry import retry
from ..storage.urls import canonical_url, open_storage


@dataclass(frozen=True)
class ModelFiles:
    """Weights that one machine has found. Cheap to send to others, which find them for themselves."""

    spec: str  # as the user named it
    resolved: Resolved

    def here(self, storage_options: Mapping[str, Any] | None = None) -> Resolved:
        """The same weights on the machine that asks. ModelError where it cannot have them."""
        if all(path.is_file() for path in self.resolved.files):
            return self.resolved
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


def find_model(
    spec: str, storage_options: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> ModelFiles:
    """As `weights.resolve`; and weights at a URL, `NAME=s3://bucket/weights.safetensors`, are copied into the cache."""
    before, separator, after = spec.partition("://")
    if not separator:
        return ModelFiles(spec, weights.resolve(spec, progress=progress))
    name, equals, scheme = before.rpartition("=")
    url = f"{scheme}{separator}{after}"
    return ModelFiles(spec, weights.resolve(f"{name}{equals}{_copied(url, storage_options)}", progress=progress))


def _copied(url: str, storage_options: Mapping[str, Any] | None) -> Path:
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
