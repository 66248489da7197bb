"""The files of an index: what was trained, and segments, each a pair of files of which the second is the commit."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..choices import IndexKind
from ..dataset.local_copies import index_copies
from ..dataset.output import Output
from ..errors import InputError
from ..records import Vectors
from ..storage.staging import unfinished
from .scan import Numbers
from .segment import Contents

TRAINED, SEGMENTS = "trained", "segments"  # folders
EARLIER = ("index.faiss", "lists.faiss")  # of November's indexes


@dataclass(frozen=True)
class Queries:
    """Held out when an index was trained, to measure its recall with. vectors: float32 [n, dim]. sides: `image` or
    `text`, [n]. parts, rows: each query's own row, which does not count as found; an empty name for queries of the
    other side."""

    vectors: Vectors
    sides: tuple[str, ...]
    parts: tuple[str, ...]
    rows: Numbers


@dataclass(frozen=True)
class Training:
    """What all segments of an index have in common, beside the trained index itself."""

    name: str
    settings: str  # digest of the index's
    kind: IndexKind
    nlist: int
    rows: int  # of the dataset, when it was trained
    seconds_a_row: float  # that exact search takes, measured on the sample
    queries: Queries

    def to_bytes(self) -> bytes:
        plain = {name: getattr(self, name) for name in ("name", "settings", "kind", "nlist", "rows", "seconds_a_row")}
        arrays: dict[str, Any] = {
            "vectors": self.queries.vectors,
            "sides": np.array(self.queries.sides, dtype=np.str_),
            "parts": np.array(self.queries.parts, dtype=np.str_),
            "rows": self.queries.rows,
        }
        with io.BytesIO() as file:
            np.savez_compressed(file, plain=np.array(json.dumps(plain)), **arrays)
            return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Training:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            plain: Mapping[str, Any] = json.loads(str(file["plain"]))
            sides, parts = tuple(file["sides"].tolist()), tuple(file["parts"].tolist())
            return cls(**plain, queries=Queries(file["vectors"], sides, parts, file["rows"]))


def trained_path(training: str) -> str:
    return f"{TRAINED}/{training}.faiss"


def vectors_path(training: str, segment: str) -> str:
    """The vectors of a segment: its cells, one after the other as FAISS lays them out, or its graph."""
    return f"{SEGMENTS}/{training}-{segment}.vectors"


def write_training(output: Output, training: Training, write: Callable[[Path], None]) -> None:
    """write: the trained index, to a path."""
    with output.staged(trained_path(training.name), replace=True) as path:
        write(path)
    output.write(f"{TRAINED}/{training.name}.npz", training.to_bytes())


def write_segment(output: Output, training: str, contents: Contents, write: Callable[[Path], Numbers]) -> str:
    """write: its vectors, to a path; it returns how many each cell has. Returns the segment's name."""
    name = contents.name
    with output.staged(vectors_path(training, name), replace=True) as path:
        contents = replace(contents, cells=write(path))
    output.write(f"{SEGMENTS}/{training}-{name}.npz", contents.to_bytes())
    return name


def trainings(output: Output) -> set[str]:
    return {name.removesuffix(".npz") for name in output.names(TRAINED) if name.endswith(".npz")}


def read_training(output: Output, name: str) -> Training:
    content = output.read(f"{TRAINED}/{name}.npz")
    if content is None:
        raise _missing(output, f"{TRAINED}/{name}.npz")
    return Training.from_bytes(content)


def segments_of(output: Output, training: str) -> list[str]:
    names = output.names(SEGMENTS)
    return sorted(name.removesuffix(".npz").partition("-")[2] for name in names if _is_commit(name, training))


def read_contents(output: Output, training: str, segment: str) -> Contents:
    content = output.read(f"{SEGMENTS}/{training}-{segment}.npz")
    if content is None:
        raise _missing(output, f"{SEGMENTS}/{training}-{segment}.npz")
    return Contents.from_bytes(content)


def sweep(output: Output, training: str, segments: Collection[str]) -> None:
    """Delete the files of other trainings and segments, which nothing names any more."""
    kept = {f"{training}-{segment}" for segment in segments}
    for folder, names in ((TRAINED, {training}), (SEGMENTS, kept)):
        for name in output.names(folder):
            if name.rpartition(".")[0] not in names:
                output.delete(f"{folder}/{name}")
    for name in EARLIER:
        output.delete(name)


def local_path(output: Output, name: str) -> Path:
    """A file of an index as a file on this machine: a copy of it, where the index is in an object store. InputError
    where it is gone."""
    if output.is_local:
        path = Path(output.url) / name
        if not path.exists():
            raise _missing(output, name)
        return path
    path = index_copies(output.url) / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = unfinished(path.parent, path.name)
        try:
            with output.open(name) as there, part.open("wb") as here:
                shutil.copyfileobj(there, here, 1 << 20)
        except FileNotFoundError as error:
            raise _missing(output, name) from error
        part.replace(path)
    return path


def forget_copies(output: Output, kept: Collection[str]) -> None:
    """Delete local copies of other files than `kept`. Processes that have mapped one keep it."""
    folder = index_copies(output.url)
    for path in folder.glob("*/*"):
        if str(path.relative_to(folder)) not in kept:
            path.unlink(missing_ok=True)


def _missing(output: Output, name: str) -> InputError:
    return InputError(f"{output.url}/{name} is missing: run the same `clipmill index` again with --overwrite")


def _is_commit(name: str, training: str) -> bool:
    return name.startswith(f"{training}-") and name.endswith(".npz")
