"""What workers do for the narrow table: one file made of parts, or of smaller files."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from ..dataset.forgotten import Forgotten
from ..dataset.layout import part_path
from ..dataset.narrow import NARROW
from ..dataset.narrow_file import (
    FORMAT,
    NarrowFile,
    NarrowReader,
    NarrowWriter,
    narrow_schema,
    read_narrow_file,
    tables_of_part,
)
from ..dataset.output import Output
from ..errors import ClipmillError

_AT_ONCE, _AHEAD = 16, 1 << 30  # parts read ahead, and their bytes: a larger part is streamed
TROUBLE = (ClipmillError, OSError, pa.ArrowException, ValueError)


@dataclass(frozen=True)
class Run:
    """Parts that become one file."""

    parts: tuple[str, ...]
    sizes: tuple[int, ...]
    stamps: tuple[int, ...]

    @property
    def name(self) -> str:
        """The same for the same parts: two processes that make the file at once make the same one."""
        return f"{hashlib.sha256(repr((FORMAT, self.parts, self.stamps)).encode()).hexdigest()[:24]}.parquet"


@dataclass(frozen=True)
class MakeFile:
    """Of parts. None where that fails: then the parts are read instead, and whoever does says what is wrong."""

    output: Output
    schema: pa.Schema  # the dataset's
    forgotten: Forgotten

    def __call__(self, run: Run) -> NarrowFile | None:
        schema = narrow_schema(self.schema)
        with suppress(*TROUBLE):
            return _written(self.output, run, schema, self._parts(run, schema))
        return None

    def _parts(self, run: Run, schema: pa.Schema) -> Iterator[Iterable[pa.Table]]:
        """Each part's rows; some parts are read ahead."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="parts") as pool:
            left, waiting = deque(zip(run.parts, run.sizes, strict=True)), deque[tuple[int, Future[list[pa.Table]]]]()
            while left or waiting:
                while left and len(waiting) < _AT_ONCE and left[0][1] + sum(size for size, _ in waiting) <= _AHEAD:
                    part, size = left.popleft()
                    waiting.append((size, pool.submit(self._all_tables, part, size, schema)))
                yield waiting.popleft()[1].result() if waiting else self._tables(*left.popleft(), schema)

    def _all_tables(self, part: str, size: int, schema: pa.Schema) -> list[pa.Table]:
        return list(self._tables(part, size, schema))

    def _tables(self, part: str, size: int, schema: pa.Schema) -> Iterator[pa.Table]:
        with self.output.open(part_path(part), size) as file:
            yield from tables_of_part(file, schema, self.forgotten.rows(part))


@dataclass(frozen=True)
class MergeFiles:
    """Of smaller files of the narrow table. None where that fails: they stay."""

    output: Output
    schema: pa.Schema  # the dataset's

    def __call__(self, merge: tuple[Run, Sequence[NarrowFile]]) -> NarrowFile | None:
        run, files = merge
        places = {part: (file, number) for file in files for number, part in enumerate(file.parts)}
        schema = narrow_schema(self.schema)
        with suppress(*TROUBLE), ExitStack() as stack:
            readers = {
                file.name: NarrowReader(stack.enter_context(self._open(file)), schema.names, file.footer)
                for file in files
            }

            def rows(part: str) -> Iterator[pa.Table]:
                file, number = places[part]
                start, stop = file.starts[number : number + 2]
                yield readers[file.name].rows(start, stop)

            return _written(self.output, run, schema, map(rows, run.parts))
        return None

    def _open(self, file: NarrowFile) -> BinaryIO:
        return self.output.open(f"{NARROW}/{file.name}", file.bytes)


def _written(output: Output, run: Run, schema: pa.Schema, parts: Iterable[Iterable[pa.Table]]) -> NarrowFile:
    """parts: of each part of the run its rows."""
    name = f"{NARROW}/{run.name}"
    with output.staged(name, replace=True) as path:
        writer = NarrowWriter(path, schema)
        for part, size, stamp, tables in zip(run.parts, run.sizes, run.stamps, parts, strict=True):
            writer.add(part, size, stamp, tables)
        writer.close()
        with path.open("rb") as file:
            made = read_narrow_file(file, run.name, path.stat().st_size, schema)
    if made is None:
        raise OSError(f"{name}: what was written cannot be read back")
    return made
