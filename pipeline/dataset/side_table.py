"""Side tables: folders of Parquet files named as a dataset's parts, with a row for each of their rows, in order.

Labels, scores, columns copied later, the parts of another dataset over the same shards. SQL joins them by place, part
by part (sql.py): a read, no shuffle. That the rows are the same is checked where they are read, once in a process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, one_line
from ..job.common import check_joins
from ..records import Shard
from ..storage.listing import Stamped
from .forgotten import PLACE, Forgotten, Rows, blanked
from .layout import DATA, part_path
from .output import Output
from .source import PART, source_of

if TYPE_CHECKING:
    from .dataset import Dataset

_AT_ONCE = 16  # files whose rows are compared
_CHECKED = set[tuple[str, str, str, int]]()  # of this process: files and parts, as they were


@dataclass(frozen=True)
class SideTable:
    """Cheap to send to workers, but for a name and a stamp a part."""

    alias: str
    url: str  # as it was named
    output: Output
    folder: str  # of its files, below the output
    files: Mapping[str, Stamped]  # by the dataset's parts
    schema: pa.Schema
    columns: tuple[str, ...]  # that SQL has
    forgotten: Forgotten = field(default_factory=Forgotten)  # in its own folder

    @property
    def option(self) -> str:
        """What errors call it."""
        return f"--join {self.alias}={self.url}"

    def url_of(self, part: str) -> str:
        return f"{self.output.url}/{self._path(part)}"

    def open(self, part: str) -> BinaryIO:
        return self.output.open(self._path(part))

    def take(self, part: str, rows: pa.ChunkedArray, columns: Sequence[str], forgotten: Rows | None) -> pa.Table:
        """Some columns of some rows of a part, by their numbers, with the types that the first file has; nothing of
        rows that are forgotten here or, by these numbers, in the dataset. InputError for values of other types."""
        with self.open(part) as file:
            table = pq.ParquetFile(file, pre_buffer=True).read(list(columns))
        taken = blanked(blanked(table, forgotten), self.forgotten.rows(part)).take(rows).select(list(columns))
        try:
            return taken.cast(pa.schema([self.schema.field(name) for name in columns]))
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"{self.option}: {part} has other types of columns than other files of it ({one_line(error)}); make "
                "the file again"
            ) from error

    def stamp(self, part: str) -> str:
        """Changes when the part's file does."""
        size, changed = self.files[part]
        gone = self.forgotten.parts.get(part)
        return f"{size} {changed} {gone.digest}" if gone else f"{size} {changed}"

    def check(self, dataset: Dataset, part: str, rows: int) -> None:
        """InputError where the part's file is not of the rows 0, 1, … of the part's shard, or says that it was made of
        the part as it was before. rows: how many there are."""
        key = self.url_of(part), self.stamp(part), dataset.version, rows
        if key not in _CHECKED:
            if wrong := self._difference(dataset, part, rows):
                raise InputError(f"{self.option}: {part} {wrong}")
            _CHECKED.add(key)

    def _difference(self, dataset: Dataset, part: str, rows: int) -> str | None:
        try:
            with self.open(part) as file:
                parquet = pq.ParquetFile(file, pre_buffer=True)
                if missing := [name for name in (*PLACE, *self.columns) if name not in parquet.schema_arrow.names]:
                    return f"has no column {missing[0]}, which other files of it have; make the file again"
                source = (parquet.metadata.metadata or {}).get(PART)
                if source is not None and source.decode() != source_of(dataset, part, None):
                    return "was made before the part was embedded again, or rows of it forgotten; make it again"
                if parquet.metadata.num_rows != rows:
                    return (
                        f"has {parquet.metadata.num_rows:,} rows, and the dataset's part {rows:,}; make it again, with "
                        "a row for each of the part's rows"
                    )
                table = parquet.read(list(PLACE))
        except (pa.ArrowException, FileNotFoundError) as error:
            return f"cannot be read ({one_line(error)}); make it again"
        numbers = np.asarray(table["row"].fill_null(-1))
        if (wrong := np.flatnonzero(numbers != np.arange(rows))).size:
            at = int(wrong[0])
            return f"has at place {at:,} row {numbers[at]:,}, not row {at:,}; sort it by row, or make it again"
        digits = part.removesuffix(".parquet").rpartition("-")[2]  # of the shard's URL
        for shard in table["shard"].cast(pa.string()).unique().to_pylist():
            if shard is None or not Shard(shard).digest.startswith(digits):
                at = table["shard"].cast(pa.string()).index(shard).as_py() if shard else 0
                return f"has at place {at:,} a row of the shard {shard}, which is not the part's; make it again"
        return None

    def _path(self, part: str) -> str:
        return f"{self.folder}/{part}" if self.folder else part


def with_columns(rows: pa.Table, dataset: Dataset, part: str, names: Sequence[str]) -> pa.Table:
    """Some rows of a part, `row` among their columns, with those of side tables that are named, as `alias.column`."""
    for side in dataset.sides:
        columns = [name.removeprefix(f"{side.alias}.") for name in names if name.startswith(f"{side.alias}.")]
        if columns:
            taken = side.take(part, rows["row"], columns, dataset.forgotten.rows(part))
            for name in columns:
                rows = rows.append_column(f"{side.alias}.{name}", taken[name])
    return rows


def identity_of(sides: Sequence[SideTable]) -> str:
    """What a dataset's version has besides, where rows depend on side tables: another text when a file changes."""
    told = [(side.alias, side.url, [(part, side.stamp(part)) for part in side.files]) for side in sides]
    return f" joined {hashlib.sha256(repr(told).encode()).hexdigest()}" if sides else ""


def check_sides(dataset: Dataset, sides: Sequence[SideTable]) -> None:
    """InputError for the first file that does not fit its part."""
    counts = _row_counts(dataset) if sides else {}
    work = [(side, part, count) for side in sides for part, count in counts.items()]
    if len(work) == 1:
        work[0][0].check(dataset, *work[0][1:])
    elif work:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sides") as pool:
            list(pool.map(lambda item: item[0].check(dataset, *item[1:]), work))


def _row_counts(dataset: Dataset) -> dict[str, int]:
    """How many rows each part has: by the narrow table, or by the parts' footers."""
    counts = {
        part: stop - start
        for file in dataset.narrow
        for part, start, stop in zip(file.parts, file.starts, file.starts[1:], strict=False)
    }

    def count(part: str) -> int:
        with dataset.output.open(part_path(part)) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    unknown = [part for part in dataset.parts if part not in counts]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="counts") as pool:
        return counts | dict(zip(unknown, pool.map(count, unknown), strict=True))


def open_sides(
    folders: Mapping[str, str], output: Output, parts: Sequence[str], own: Collection[str]
) -> list[SideTable]:
    """The side tables of a dataset: of its output, its parts, its own columns. UserError for a name that cannot be one,
    InputError for a folder that has no file for some part."""
    check_joins(folders, own)
    return [_open(alias, url, Output.at(url, output.storage_options), parts) for alias, url in folders.items()]


def _open(alias: str, url: str, output: Output, parts: Sequence[str]) -> SideTable:
    folder, files = DATA, output.stamped(DATA)
    if not any(name in files for name in parts):
        folder, files = "", output.stamped()
    if missing := [part for part in parts if part not in files]:
        raise InputError(
            f"--join {alias}={url}: {len(missing):,} of the dataset's {len(parts):,} parts have no file in it, "
            f"of which the first is {missing[0]}; make the files that are missing, or name another folder"
        )
    side = SideTable(alias, url, output, folder, {part: files[part] for part in parts}, pa.schema([]), ())
    try:
        with side.open(parts[0]) as file:
            schema = pq.ParquetFile(file).schema_arrow.remove_metadata()
    except pa.ArrowException as error:
        raise InputError(f"{side.option}: {parts[0]} is not Parquet; make it again") from error
    if lacking := [name for name in PLACE if name not in schema.names]:
        raise InputError(
            f"{side.option}: {parts[0]} has no column {lacking[0]}: copy shard and row from the dataset's part, for "
            "rows to be compared"
        )
    return SideTable(alias, url, output, folder, side.files, schema, tuple(schema.names))
