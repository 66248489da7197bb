"""The shuffle: every task writes one object, sorted by bucket, with an index beside it; a later task reads a range of
buckets from each of them.

With objects and ranges of the square root of all bytes times a megabyte, each range has a megabyte on average: as many
requests as there are megabytes, however large the dataset.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dataset.output import Output
from .components import Ids

Slice = tuple[str, int, int]  # an object's name, and where in it a range begins and ends

_LEAST = 32 << 20  # bytes of an object or a range, where there are as many
_AVERAGE = 1 << 20  # bytes that a request gets
IN_MEMORY = 64 << 20  # bytes of a range, of which there are one or two a core; what has more lies on the disk
_AT_ONCE = 8  # requests of a task: against latency
_HELD = 1 << 22  # offsets of indexes in memory: 32 MiB
_INDEX = ".npz"


def fair(total: int) -> int:
    """How many bytes an object, or a range of buckets, may have where `total` bytes are shuffled."""
    return max(_LEAST, math.isqrt(total * _AVERAGE))


def fair_range(total: int, objects: int, held: int = IN_MEMORY) -> int:
    """How many bytes a range of buckets may have, where `total` bytes lie in so many objects. Up to `held`, ranges are
    as large as gives a request two megabytes, which small objects do not."""
    return max(fair(total), min(held, 2 * objects * _AVERAGE))


@dataclass(frozen=True)
class Index:
    """What lies where in an object. offsets: int64 [buckets + 1], in bytes; counts: int64, what its writer counted."""

    offsets: Ids
    counts: Ids


def index_name(name: str) -> str:
    """The index is written last: where it is, the object is whole."""
    return f"{name}{_INDEX}"


def digest_of(slices: Sequence[Slice], *more: object) -> str:
    """12 hex digits: part of the name of a file that is made from these slices and from what else is told. Where ranges
    are cut in another way, files of other names are made."""
    return hashlib.sha256(repr((tuple(slices), more)).encode()).hexdigest()[:12]


def names_done(files: Iterable[str]) -> set[str]:
    """The objects that are whole. files: names of all files."""
    return {file.removesuffix(_INDEX) for file in files if file.endswith(_INDEX)}


def sort(records: npt.NDArray[Any], bucket: npt.NDArray[np.int64], buckets: int) -> tuple[npt.NDArray[Any], Ids]:
    """The records in order of their buckets, those of one bucket in their own order, and the offsets in bytes."""
    counts = np.bincount(bucket, minlength=buckets)
    size = records.dtype.itemsize * math.prod(records.shape[1:])
    return records[np.argsort(bucket, kind="stable")], offsets_of(counts) * size


def offsets_of(counts: npt.NDArray[np.int64]) -> Ids:
    """Where each begins, and where the last ends, of things of these sizes that follow each other."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def write(
    output: Output, name: str, pieces: Iterable[npt.NDArray[Any] | bytes], offsets: Ids, counts: Sequence[int] = ()
) -> None:
    """pieces: follow each other in the object. An object of no bytes is an index alone."""
    if offsets[-1]:
        with output.staged(name, replace=True) as path, path.open("wb") as file:
            for piece in pieces:
                file.write(piece if isinstance(piece, bytes) else np.ascontiguousarray(piece).data)
    index = io.BytesIO()
    np.savez(index, offsets=offsets, counts=np.array(counts, np.int64))
    output.write(index_name(name), index.getvalue())


def indexes(output: Output, names: Sequence[str]) -> Iterator[Index]:
    """In the order of the names, a few of them in memory."""

    def read(name: str) -> Index:
        with np.load(io.BytesIO(output.read(index_name(name)) or b"")) as index:
            return Index(index["offsets"], index["counts"])

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="indexes") as pool:
        for start in range(0, len(names), 2 * _AT_ONCE):
            yield from pool.map(read, names[start : start + 2 * _AT_ONCE])


def cut(sizes: npt.NDArray[np.int64], most: int) -> Ids:
    """Where ranges of buckets begin, and the end of the last: each of at most so many bytes, or one bucket of more."""
    cuts, size = [0], 0
    for bucket, more in enumerate(sizes.tolist()):
        if size + more > most and bucket > cuts[-1]:
            cuts.append(bucket)
            size = 0
        size += more
    return np.array([*cuts, len(sizes)], np.int64)


@dataclass(frozen=True)
class Ranges:
    """The same ranges of buckets in several objects. bounds: int64 [objects, ranges + 1], in bytes; counts: int64
    [objects, counts], what their writers counted."""

    names: tuple[str, ...]
    bounds: Ids
    counts: Ids

    @classmethod
    def over(cls, output: Output, names: Sequence[str], cuts: Ids) -> Ranges:
        """cuts: where ranges of buckets begin, and the end of the last."""
        return cls._over(names, indexes(output, names), cuts)

    @classmethod
    def _over(cls, names: Sequence[str], found: Iterable[Index], cuts: Ids) -> Ranges:
        bounds, counts = np.empty((len(names), len(cuts)), np.int64), []
        for place, index in enumerate(found):
            bounds[place] = index.offsets[cuts]
            counts.append(index.counts)
        return cls(tuple(names), bounds, np.array(counts, np.int64))

    @classmethod
    def fitting(cls, output: Output, names: Sequence[str], buckets: int, held: int = IN_MEMORY) -> Ranges:
        """Ranges of a fair size, see `fair_range`. Where not all indexes fit into memory, they are read twice."""
        found = indexes(output, names)
        kept = list(found) if len(names) * buckets <= _HELD else None
        sizes = np.zeros(buckets, np.int64)
        for index in found if kept is None else kept:
            sizes += np.diff(index.offsets)
        cuts = cut(sizes, fair_range(int(sizes.sum()), len(names), held))
        return cls._over(names, indexes(output, names) if kept is None else kept, cuts)

    def divided(self, objects: int) -> tuple[Ranges, Ranges]:
        """Of the first so many objects, and of the others."""
        return (
            Ranges(self.names[:objects], self.bounds[:objects], self.counts[:objects]),
            Ranges(self.names[objects:], self.bounds[objects:], self.counts[objects:]),
        )

    def beside(self, names: Sequence[str], size: int, other: int) -> Ranges:
        """The same records in other objects, in the same order: of `size` bytes here, of `other` bytes there."""
        return Ranges(tuple(names), self.bounds // size * other, self.counts)

    def __len__(self) -> int:
        return self.bounds.shape[1] - 1

    def of(self, number: int) -> tuple[Slice, ...]:
        """What there is of a range, one slice of each object that has any."""
        ends = self.bounds[:, number : number + 2].tolist()
        return tuple((name, start, stop) for name, (start, stop) in zip(self.names, ends, strict=True) if start < stop)

    def whole(self) -> list[Slice]:
        """All that there is, object by object."""
        ends = self.bounds[:, [0, -1]].tolist()
        return [(name, start, stop) for name, (start, stop) in zip(self.names, ends, strict=True) if start < stop]

    @property
    def bytes(self) -> int:
        return sum(stop - start for _, start, stop in self.whole())

    def all(self) -> Iterator[tuple[Slice, ...]]:
        """What there is of each range that has any."""
        return filter(None, map(self.of, range(len(self))))


def read(output: Output, slices: Sequence[Slice]) -> Iterator[bytes]:
    """The slices' bytes, in order; a few requests at once."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="slices") as pool:
        for start in range(0, len(slices), 2 * _AT_ONCE):
            yield from pool.map(lambda piece: output.read_range(*piece), slices[start : start + 2 * _AT_ONCE])


def records(output: Output, slices: Sequence[Slice], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """The slices' records, one after the other."""
    return np.frombuffer(b"".join(read(output, slices)), kind)
