"""The rows that a report shows, with what it shows of them. The next report shows most of them again, and finds them in
`.clipmill/report/`, a cache."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.layout import REPORT
from ..errors import ClipmillError
from ..package import __version__

_NAME = "shown.json"
_MOST = 4096  # rows that are kept
_AT_ONCE = 16  # parts read: against latency
_SHOWN = ("key", "caption", "image_offset", "image_size")  # columns, in the order of a row's

Place = tuple[str, int]  # shard and row


@dataclass(frozen=True)
class Row:
    """A row of a dataset, with the columns that a report shows."""

    key: str
    caption: str | None
    shard: str
    row: int
    image_offset: int | None
    image_size: int | None
    figure: float | None = None  # its similarity, or its label's probability
    label: str | None = None

    @property
    def place(self) -> Place:
        return self.shard, self.row


@dataclass
class ShownRows:
    """Those of one dataset, as they are asked for. stamps: of its parts, by their shards."""

    dataset: Dataset
    stamps: dict[str, int]
    _known: dict[Place, Row] = field(default_factory=dict)
    _asked: dict[Place, Row] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset) -> ShownRows:
        """With those that earlier reports have kept, as far as their parts are as they were."""
        rows = cls(dataset, dict(zip(dataset.shards(), dataset.stamps, strict=True)))
        with suppress(ClipmillError, OSError, ValueError, KeyError, TypeError):  # a damaged one tells nothing
            told = json.loads(dataset.output.read(f"{REPORT}/{_NAME}") or b"null")
            if told["version"] == __version__:
                kept = [(stamp, Row(*columns)) for stamp, *columns in told["rows"]]
                rows._known = {row.place: row for stamp, row in kept if rows.stamps.get(row.shard) == stamp}
        return rows

    def at(self, places: Iterable[Place]) -> dict[Place, Row]:
        """The rows at these places. Those in no part of the dataset are left out."""
        wanted = set(places)
        self._asked |= {place: self._known[place] for place in wanted & self._known.keys()}
        if missing := wanted - self._asked.keys():
            self._asked |= {place: row for place, (row, _) in rows_at(self.dataset, missing).items()}
        return {place: self._asked[place] for place in wanted & self._asked.keys()}

    def keep(self) -> None:
        """For the next report, where they can be written: those asked for, and others that were known."""
        if self._asked.keys() <= self._known.keys():
            return
        kept = list((self._asked | self._known).values())[:_MOST]
        rows = [
            (self.stamps[row.shard], row.key, row.caption, row.shard, row.row, row.image_offset, row.image_size)
            for row in kept
        ]
        with suppress(ClipmillError, OSError):
            content = json.dumps({"version": __version__, "rows": rows})
            self.dataset.output.write(f"{REPORT}/{_NAME}", content.encode())


def rows_at(dataset: Dataset, places: Iterable[Place], more: Sequence[str] = ()) -> dict[Place, tuple[Row, pa.Table]]:
    """The rows at these places, each with a table of one row: the columns `more`. Places in no part of the dataset are
    left out. Reads one row group of a part for each row at the most."""
    parts = dict(zip(dataset.shards(), dataset.parts, strict=True))
    known = sorted({place for place in places if place[0] in parts})
    by_shard = [(shard, [row for _, row in group]) for shard, group in groupby(known, lambda place: place[0])]

    def read(shard: str, rows: list[int]) -> list[tuple[Place, tuple[Row, pa.Table]]]:
        table = dataset.take(parts[shard], rows, [*_SHOWN, *more])
        fields = zip(*(table[name].to_pylist() for name in _SHOWN), strict=True)
        others = table.select(more)
        return [
            ((shard, row), (Row(key, caption, shard, row, offset, size), others.slice(number, 1)))
            for number, (row, (key, caption, offset, size)) in enumerate(zip(rows, fields, strict=True))
        ]

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="samples") as pool:
        return dict(pair for pairs in pool.map(lambda of: read(*of), by_shard) for pair in pairs)
