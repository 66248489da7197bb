"""Groups over a cluster: pairs become stars, in which everything of a group points at its lowest (Kiveris et al. 2014,
"Connected Components in MapReduce and Beyond": large-star and small-star in turn).

Pairs are sorted to partitions by a hash of a row, so that a task sees all that a row is connected to. As many as one
machine holds are connected at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ..dataset.output import Output
from ..running.scatter import scatter
from . import sorted_files
from .components import Ids, connect
from .sorted_files import Ranges, Slice
from .state import Numbering

_AT_ONCE = 1 << 27  # bytes of pairs, 16 each, that one task connects
_PARTITION = 1 << 26  # bytes of pairs of one task where there are more
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio: neighbouring ids go to different partitions
_PAIR = np.dtype(np.int64)

Kind = Literal["large", "small", "members"]
KINDS: tuple[Kind, Kind] = ("large", "small")  # of a round
Item = tuple[int, Sequence[Slice]]  # its number, and what it reads


@dataclass(frozen=True)
class Graph:
    """Where pairs lie, and where the work on them is written. prefix: of its files' names."""

    output: Output
    prefix: str
    numbering: Numbering
    address: str

    def members(self, pairs: Sequence[Slice], done: set[str]) -> Ranges:
        """All rows in groups, sorted by run: pairs of the row and the lowest of its group, int64 [n, 2], their ids by
        the places of their parts. pairs: int64 [k, 2], of ids as they are stored. done: files that are there."""
        total = sum(stop - start for _, start, stop in pairs)
        if total <= _AT_ONCE:
            names = self._run(ConnectAll(self), 1, [(0, tuple(pairs))], done)
        else:
            names = self._by_rounds(pairs, 2 * total, done)
        return Ranges.over(self.output, names, np.arange(self.numbering.runs + 1))

    def _by_rounds(self, pairs: Sequence[Slice], total: int, done: set[str]) -> list[str]:
        partitions, groups = -(-total // _partition(total)), list(_groups(pairs, _partition(total)))
        names = self._run(Spread(self, partitions), len(groups), enumerate(groups), done)
        stage, is_done = 0, False
        while not is_done:
            changes = 0
            for kind in KINDS:
                names = self._stage(MakeStars(self, partitions, stage, kind), names, done)
                changes += sum(int(index.counts[0]) for index in sorted_files.indexes(self.output, names))
                stage += 1
            is_done = not changes
        return self._stage(MakeStars(self, partitions, stage, "members"), names, done)

    def _stage(self, task: MakeStars, names: Sequence[str], done: set[str]) -> list[str]:
        ranges = Ranges.over(self.output, names, np.arange(task.partitions + 1))
        return self._run(task, len(ranges), enumerate(map(ranges.of, range(len(ranges)))), done)

    def _run(
        self, task: ConnectAll | Spread | MakeStars, count: int, items: Iterable[Item], done: set[str]
    ) -> list[str]:
        left = (item for item in items if task.name_of(item[0]) not in done)
        for _ in scatter(task, left, self.address):
            pass
        return [task.name_of(number) for number in range(count)]


def _partition(total: int) -> int:
    """Bytes of pairs that one task takes, where there are so many."""
    return max(_PARTITION, math.isqrt(total << 20))  # ranges of a megabyte on average


def _groups(pairs: Sequence[Slice], most: int) -> Iterator[tuple[Slice, ...]]:
    """Files of pairs for one task each."""
    group: list[Slice] = []
    for piece in pairs:
        group.append(piece)
        if sum(stop - start for _, start, stop in group) >= most:
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


def _read(graph: Graph, slices: Sequence[Slice]) -> Ids:
    return sorted_files.records(graph.output, slices, _PAIR).reshape(-1, 2)


@dataclass(frozen=True)
class ConnectAll:
    """Connects all pairs in one task."""

    graph: Graph

    def name_of(self, number: int) -> str:
        return f"{self.graph.prefix}members-{number:06d}"

    def __call__(self, item: Item) -> None:
        number, slices = item
        ids, indices = np.unique(self.graph.numbering.placed(_read(self.graph, slices)), return_inverse=True)
        first = connect(np.arange(len(ids)), indices.reshape(-1, 2))
        _write(self.graph, self.name_of(number), np.stack([ids, ids[first]], axis=1))


def _write(graph: Graph, name: str, members: Ids) -> None:
    numbering = graph.numbering
    runs = numbering.runs_of(numbering.numbered(members[:, 0]))
    records, offsets = sorted_files.sort(members, runs, numbering.runs)
    sorted_files.write(graph.output, name, [records], offsets)


@dataclass(frozen=True)
class Spread:
    """Writes pairs for the first round of stars."""

    graph: Graph
    partitions: int

    def name_of(self, number: int) -> str:
        return f"{self.graph.prefix}pairs-{number:06d}"

    def __call__(self, item: Item) -> None:
        number, slices = item
        pairs = self.graph.numbering.placed(_read(self.graph, slices))
        _write_by_hash(self.graph.output, self.name_of(number), _both_ways(pairs), self.partitions, 0)


def _both_ways(pairs: Ids) -> Ids:
    return np.concatenate([pairs, pairs[:, ::-1]])


def _write_by_hash(output: Output, name: str, pairs: Ids, partitions: int, changes: int) -> None:
    """pairs: each goes to the partition of its first."""
    mixed = (pairs[:, 0].astype(np.uint64) * _MIXER) >> np.uint64(32)
    records, offsets = sorted_files.sort(pairs, (mixed % np.uint64(partitions)).astype(np.int64), partitions)
    sorted_files.write(output, name, [records], offsets, [changes])


@dataclass(frozen=True)
class MakeStars:
    """One half of a round in one partition; or, when all are stars, who is in which."""

    graph: Graph
    partitions: int
    stage: int
    kind: Kind

    def name_of(self, number: int) -> str:
        return f"{self.graph.prefix}stars-{self.stage:03d}-{number:06d}"

    def __call__(self, item: Item) -> None:
        number, slices = item
        pairs = _sorted(_read(self.graph, slices))
        name, write = self.name_of(number), partial(_write_by_hash, self.graph.output)
        if self.kind == "members":
            _write(self.graph, name, members_of(pairs))
        elif self.kind == "large":
            stars, changes = large_star(pairs)
            write(name, stars, self.partitions, changes)
        else:
            stars, changes = small_star(pairs)
            write(name, _both_ways(stars), self.partitions, changes)


def _sorted(pairs: Ids) -> Ids:
    """In order, and each once."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    again = np.zeros(len(pairs), np.bool_)
    again[1:] = (pairs[1:] == pairs[:-1]).all(axis=1)
    return pairs[~again]


def _lowest(pairs: Ids) -> Ids:
    """Of each pair the lowest that its first is paired with. pairs: sorted."""
    begins = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    return np.repeat(pairs[begins, 1], np.diff([*begins, len(pairs)]))


def members_of(pairs: Ids) -> Ids:
    """Each row once, and the lowest that it is paired with, or itself. pairs: both ways, sorted."""
    begins = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    rows = pairs[begins]
    return np.stack([rows[:, 0], rows.min(axis=1)], axis=1) if len(rows) else rows


def large_star(pairs: Ids) -> tuple[Ids, int]:
    """What is higher than a row points at the lowest that the row knows: pairs of higher and lower, and how many of
    them are new. pairs: both ways, sorted."""
    lowest = np.minimum(pairs[:, 0], _lowest(pairs))
    higher = pairs[:, 1] > pairs[:, 0]
    return np.stack([pairs[:, 1], lowest], axis=1)[higher], int((lowest < pairs[:, 0])[higher].sum())


def small_star(pairs: Ids) -> tuple[Ids, int]:
    """A row, and what it points at, all point at the lowest of these; as `large_star`. pairs: higher, lower; sorted."""
    lowest = _lowest(pairs)
    others = pairs[:, 1] != lowest
    own = np.stack([pairs[:, 0], lowest], axis=1)
    return np.concatenate([own, np.stack([pairs[:, 1], lowest], axis=1)[others]]), int(others.sum())
