"""Which files of a folder make up a sample, by their names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec

from ..storage.retry import retry
from .names import IMAGE_EXTENSIONS, JSON_EXTENSION, split_name
from .roles import RoleFinder
from .tario import MAX_MEMBER

TABLES = ("metadata.jsonl", "metadata.csv")  # Hugging Face's imagefolder convention: a row for each image
_ALWAYS_READ = IMAGE_EXTENSIONS | {"txt", "json"}


@dataclass(frozen=True, slots=True)
class FolderFile:
    path: str  # as the storage calls it
    name: str
    key: str  # the name up to the first dot
    extension: str  # what follows that, lower-cased
    size: int | None

    @property
    def stem(self) -> str:
        """The name up to the last dot."""
        return self.name.rpartition(".")[0]

    @property
    def middle(self) -> str:
        return self.extension.rpartition(".")[0]

    @property
    def is_too_large(self) -> bool:
        return self.size is not None and self.size > MAX_MEMBER


@dataclass(slots=True)
class FolderSample:
    """The files of one sample, of which at most one is an image; or a table's row whose file is not there."""

    stem: str
    image: FolderFile | None = None
    beside: list[FolderFile] = field(default_factory=list)
    missing: str | None = None  # the file that only a table names

    @property
    def all(self) -> list[FolderFile]:
        return [self.image, *self.beside] if self.image else self.beside

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.all if not file.is_too_large)


def is_image_name(name: str) -> bool:
    split = split_name(name)
    return split is not None and split[1].rpartition(".")[2] in IMAGE_EXTENSIONS


def etag_of(files: Iterable[tuple[str, int | None, str | None]]) -> str:
    """A tag that changes when a file that is read changes. files: name, size, and etag or modification time."""
    lines = (f"{name}\0{size}\0{changed}\n" for name, size, changed in sorted(files, key=str) if _is_read(name))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _is_read(name: str) -> bool:
    split = split_name(name)
    return name in TABLES or (split is not None and split[1].rpartition(".")[2] in _ALWAYS_READ)


def list_files(storage: fsspec.AbstractFileSystem, url: str) -> list[FolderFile]:
    """The files directly in a folder that could be part of a sample, and its tables, by name."""
    storage.invalidate_cache()
    infos: list[dict[str, Any]] = retry(lambda: storage.ls(url, detail=True))
    files = []
    for info in sorted(infos, key=lambda info: str(info["name"])):
        name = info["name"].rpartition("/")[2]
        if (split := split_name(name)) is not None and _is_file(storage, info):
            files.append(FolderFile(info["name"], name, *split, info.get("size")))
    return files


def _is_file(storage: fsspec.AbstractFileSystem, info: Mapping[str, Any]) -> bool:
    """A link is what it leads to; one that leads nowhere is a file that cannot be read."""
    if not info.get("islink"):
        return bool(info["type"] == "file")
    try:
        return bool(storage.info(info["name"])["type"] == "file")
    except OSError:
        return True


def samples_of(files: Iterable[FolderFile], roles: RoleFinder) -> list[FolderSample]:
    """Every image is a sample, with the captions and the json of its stem, or of its key where these are of no other
    image; and so is every caption without an image. In order of their stems."""
    by_key: dict[str, list[FolderFile]] = {}
    for file in files:
        if file.name not in TABLES and roles.needs(file.extension):
            by_key.setdefault(file.key, []).append(file)
    samples = [sample for group in by_key.values() for sample in _samples_of_key(group, roles)]
    return sorted(samples, key=lambda sample: (sample.stem, sample.image.name if sample.image else ""))


def _samples_of_key(files: list[FolderFile], roles: RoleFinder) -> list[FolderSample]:
    images = [file for file in files if roles.is_image(file.extension)]
    beside = [file for file in files if not roles.is_image(file.extension)]
    samples = [FolderSample(image.stem, image, [f for f in beside if f.stem == image.stem]) for image in images]
    stems = {image.stem for image in images}
    free = [file for file in beside if file.stem not in stems]
    taken: set[str] = set()
    for sample in samples:
        for file in free:  # `0.image.jpg` and `0.caption.txt`; `a.txt` for all of `a.1.jpg`, `a.2.jpg`
            if (len(images) == 1 or not file.middle) and not _has_like(sample, file, roles):
                sample.beside.append(file)
                taken.add(file.name)
    left: dict[str, list[FolderFile]] = {}
    for file in free:
        if file.name not in taken:
            left.setdefault(file.stem, []).append(file)
    return samples + [
        FolderSample(stem, None, group)
        for stem, group in left.items()
        if any(roles.is_caption(file.extension) for file in group)  # a json alone is about something else
    ]


def _has_like(sample: FolderSample, file: FolderFile, roles: RoleFinder) -> bool:
    """Whether the sample has a file of the same use already."""
    if file.extension.rpartition(".")[2] == JSON_EXTENSION:
        return any(other.extension.rpartition(".")[2] == JSON_EXTENSION for other in sample.beside)
    return any(roles.is_caption(other.extension) for other in sample.beside)
