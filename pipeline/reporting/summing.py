"""A report's sums of all rows: those that earlier reports have kept, and new ones of all other parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.dataset import Dataset
from ..dataset.sql import files
from ..dataset.subset import rows_digest
from ..filtering.rows import Rows
from ..filtering.runs import MOST, Run, runs_of
from ..filtering.spread import Spread
from ..package import __version__
from ..running import narrow_table
from .frame import Bins, Frame
from .kept_sums import KeptSums, keep, kept_sums, write_sums
from .sums import Scheme, add_up, bins_of, merge

_FILES = 16  # of the sums of all rows, about: where a part is embedded again, those of its file are added up again
_MANY, _SMALL = 64, 32  # files, from which on those become one that have less than a part in so many of all rows
_AT_ONCE = 16  # footers read


@dataclass(frozen=True)
class Summing:
    """rows: of a dataset as `narrowed` has it. judged: rows that recipes judge, at most about."""

    rows: Rows
    scheme: Scheme
    judged: int
    spread: Spread

    def run(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        """Makes the table `sums`. folder: an empty one on this machine, for files that are merged."""
        dataset = self.rows.dataset
        stamps, identity = dict(zip(dataset.parts, self._stamps(), strict=True)), self._identity()
        kept = kept_sums(dataset.output, identity, stamps, folder)
        frame = self._frame(connection, kept, self._without(kept))
        kept = [sums for sums in kept if sums.frame == frame]
        made = _Files(connection, folder, frame, stamps)
        for run, table in self._added_up(frame, self._without(kept)):
            made.add(run.parts, table)
        every = made.compacted([*kept, *made.in_few(dataset.parts)])
        merge(connection, _rows_of(every))
        keep(dataset.output, identity, every)

    def _identity(self) -> str:
        """Of all that sums depend on besides parts."""
        labels, within = self.rows.labels, self.rows.within
        facts = (
            (__version__, duckdb.__version__, asdict(self.scheme)),
            (labels.output.url, labels.settings) if labels else None,
            within.output.url if within else None,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _stamps(self) -> list[str]:
        """Of each part, all that its sums depend on."""
        dataset, labels, within = self.rows.dataset, self.rows.labels, self.rows.within
        stamps = list(map(str, dataset.stamps))
        if labels is not None:
            stamps = [f"{stamp} {size}" for stamp, size in zip(stamps, labels.sizes, strict=True)]
        if within is not None:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="footers") as pool:
                digests = dict(zip(within.parts, pool.map(partial(rows_digest, within), within.parts), strict=True))
            stamps = [f"{stamp} {digests.get(part)}" for stamp, part in zip(stamps, dataset.parts, strict=True)]
        return stamps

    def _without(self, kept: Iterable[KeptSums]) -> Dataset:
        """The dataset of the other parts."""
        known = {part for sums in kept for part in sums.parts}
        return self.rows.dataset.only([part for part in self.rows.dataset.parts if part not in known])

    def _frame(self, connection: duckdb.DuckDBPyConnection, kept: Sequence[KeptSums], new: Dataset) -> Frame:
        """That of earlier sums, where it will do for all rows."""
        rows, bins = _kept_bins(connection, kept)
        counting = CountBins(self.rows.for_runs(), self.scheme)
        for _, (more, of_run) in self.spread("looking for thresholds", counting, runs(new)):
            rows += more
            for alias, of in of_run.items():
                bins.setdefault(alias, Counter()).update(of)
        if kept and kept[0].frame.fits(bins, rows, self.judged):
            return kept[0].frame
        return Frame.of(bins, rows, self.judged)

    def _added_up(self, frame: Frame, new: Dataset) -> Iterator[tuple[Run, pa.Table]]:
        return self.spread("counting", AddUp(self.rows.for_runs(), self.scheme, frame), runs(new))


@dataclass(frozen=True)
class CountBins:
    """See `sums.bins_of`."""

    rows: Rows
    scheme: Scheme

    def __call__(self, run: Run) -> tuple[int, dict[str, Bins]]:
        return self.rows.of(run, self._bins)

    def _bins(self, rows: Rows, run: Run) -> tuple[int, dict[str, Bins]]:
        with rows.connect(run.parts) as connection:
            return bins_of(connection, self.scheme, rows.source(run.parts))


@dataclass(frozen=True)
class AddUp:
    """See `sums.add_up`."""

    rows: Rows
    scheme: Scheme
    frame: Frame

    def __call__(self, run: Run) -> pa.Table:
        return self.rows.of(run, self._sums)

    def _sums(self, rows: Rows, run: Run) -> pa.Table:
        with rows.connect(run.parts) as connection:
            add_up(connection, self.scheme, self.frame, rows.source(run.parts))
            return connection.table("sums").to_arrow_table()


def runs(dataset: Dataset) -> list[Run]:
    """All parts in a few portions, for workers: opening a connection costs as much as some thousands of rows."""
    in_table = {part for file in dataset.narrow for part in file.parts}
    others = [number for number, part in enumerate(dataset.parts) if part not in in_table]
    of_table = runs_of(dataset.only(in_table), MOST) if in_table else []
    return [*of_table, *(Run(r.parts, r.sizes, r.stamps) for r in narrow_table.runs_of(dataset, others))]


class _Files:
    """Files of sums on this machine, all of one frame."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, frame: Frame, stamps: Mapping[str, str]
    ) -> None:
        self._connection, self._folder, self._frame, self._stamps = connection, folder, frame, stamps
        self._made: list[KeptSums] = []

    def add(self, parts: Sequence[str], table: pa.Table) -> None:
        """The sums of some parts."""
        self._made.append(self._written(parts, table))

    def in_few(self, order: Sequence[str]) -> list[KeptSums]:
        """What was added, in about `_FILES` files. order: of all parts."""
        places = {part: number for number, part in enumerate(order)}
        waiting, most, few = list[KeptSums](), sum(sums.rows for sums in self._made) // _FILES, list[KeptSums]()
        for sums in sorted(self._made, key=lambda sums: places[sums.parts[0]]):
            waiting.append(sums)
            if sum(sums.rows for sums in waiting) >= most:
                few.append(self._merged(waiting))
                waiting = []
        return [*few, self._merged(waiting)] if waiting else few

    def compacted(self, files: Sequence[KeptSums]) -> list[KeptSums]:
        """Where there are many files, the small ones become one."""
        least = sum(sums.rows for sums in files) / _SMALL
        small = [sums for sums in files if sums.rows < least]
        if len(files) <= _MANY or len(small) < 2:
            return list(files)
        return [*(sums for sums in files if sums.rows >= least), self._merged(small)]

    def _merged(self, files: Sequence[KeptSums]) -> KeptSums:
        if len(files) == 1:
            return files[0]
        merge(self._connection, _rows_of(files))
        parts = [part for sums in files for part in sums.parts]
        return self._written(parts, self._connection.table("sums").to_arrow_table())

    def _written(self, parts: Sequence[str], table: pa.Table) -> KeptSums:
        rows = _rows_in(table)
        stamps = tuple(self._stamps[part] for part in parts)
        sums = KeptSums(Path(), tuple(parts), stamps, rows, self._frame)
        sums = replace(sums, path=self._folder / f"made-{sums.name}")
        write_sums(table, sums)
        return sums


def _rows_in(table: pa.Table) -> int:
    of_rows = pc.and_kleene(pc.equal(table["what"], "counts"), pc.equal(table["name"], "rows"))
    return pc.sum(table["rows"].filter(of_rows)).as_py() or 0


def _rows_of(kept: Collection[KeptSums]) -> str:
    """In SQL, the rows of all their tables."""
    return files(str(sums.path) for sums in kept)


def _kept_bins(
    connection: duckdb.DuckDBPyConnection, kept: Collection[KeptSums]
) -> tuple[int, dict[str, Counter[int]]]:
    """As `sums.bins_of`, of earlier sums."""
    bins: dict[str, Counter[int]] = {}
    if kept:
        found = connection.execute(
            f"SELECT what[6:], number::INTEGER, sum(rows)::BIGINT FROM {_rows_of(kept)} WHERE what LIKE 'bins %' "
            "GROUP BY ALL"
        ).fetchall()
        for alias, bin, rows in found:
            bins.setdefault(alias, Counter())[bin] = rows
    return sum(sums.rows for sums in kept), bins
