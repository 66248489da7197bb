"""Which samples go into which of the new shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..choices import USUAL_KEYS, SampleKeys
from ..records import Shard

_TOGETHER = 32  # new shards that a shuffle spreads samples over; bounds the number of sources of one new shard


@dataclass(frozen=True)
class Source:
    """A part of the dataset, and the shard it was made from."""

    part: str
    shard: Shard  # as it was when it was embedded
    wanted: int  # rows
    which: str = ""  # digest of these rows' numbers, where a subset chose them
    keys: SampleKeys = USUAL_KEYS  # where images and captions are in it


@dataclass(frozen=True)
class Picked:
    """Some of the wanted rows of a source. positions: among its wanted rows, int64, ascending."""

    source: Source
    positions: npt.NDArray[np.int64]


@dataclass(frozen=True)
class NewShard:
    """One output shard."""

    number: int
    picked: tuple[Picked, ...]  # in its own order

    @property
    def samples(self) -> int:
        return sum(len(picked.positions) for picked in self.picked)


def cut(sources: Sequence[Source], size: int, seed: int | None = None) -> Iterator[NewShard]:
    """All wanted rows in shards of `size`; the last may be smaller.

    Without a seed, rows keep the dataset's order. With one, it draws the order of the sources, and the rows of every 32
    shards are spread over these at random; within a shard rows keep the order of their sources.
    """
    order = (
        list(sources) if seed is None else [sources[i] for i in np.random.default_rng(seed).permutation(len(sources))]
    )
    ends = np.cumsum([source.wanted for source in order])
    total = int(ends[-1]) if len(ends) else 0
    for number in range(-(-total // size)):
        positions = np.arange(number * size, min((number + 1) * size, total))
        if seed is not None:
            first = number // _TOGETHER * _TOGETHER
            start, stop = first * size, min((first + _TOGETHER) * size, total)
            drawn = np.random.default_rng([seed, first]).permutation(stop - start) + start
            positions = np.sort(drawn[positions - start])
        yield NewShard(number, tuple(_split(order, ends, positions)))


def _split(order: Sequence[Source], ends: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> Iterator[Picked]:
    """positions: ascending, counted through all sources."""
    of_source = np.searchsorted(ends, positions, side="right")
    firsts = np.flatnonzero(np.diff(of_source, prepend=-1))
    for some in np.split(positions, firsts[1:]):
        source = int(np.searchsorted(ends, some[0], side="right"))
        yield Picked(order[source], some - (int(ends[source]) - order[source].wanted))
