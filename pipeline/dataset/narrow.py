"""The narrow table: all columns of a dataset but the embeddings, in few large files, made of the parts.

It is a cache, in `.clipmill/narrow/`. A file is of parts in the plan's order and names them; it counts as long as all
of them are as they were when it was made. Files never change: more parts make more files, and small ones are merged.
What no file has is read from the parts, so that missing, damaged and stale files cost time and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import duckdb
import pyarrow as pa

from ..errors import ClipmillError, InfrastructureError, UserError, one_line
from .layout import OWN
from .narrow_file import NarrowFile, check_narrow_file, narrow_schema, read_narrow_file
from .output import Output

if TYPE_CHECKING:
    from .dataset import Dataset

R = TypeVar("R")

NARROW = f"{OWN}/narrow"
PLACE = "file_row_number"  # what DuckDB calls a row's place in its file: a dataset with such a column has no table
_AT_ONCE = 16  # footers read
_TROUBLE = (ClipmillError, duckdb.Error, pa.ArrowException, OSError, ValueError)


def narrowed(dataset: Dataset) -> Dataset:
    """The same rows without embeddings, for SQL and the like: read from the narrow table, as far as it has them."""
    return with_files(dataset, narrow_files(dataset))


def with_files(dataset: Dataset, files: Iterable[NarrowFile]) -> Dataset:
    """As `narrowed`. files: as `narrow_files` gives them."""
    columns = [field for field in dataset.schema if not pa.types.is_fixed_size_list(field.type)]
    return replace(dataset, schema=pa.schema(columns), narrow=tuple(files))


def reading(dataset: Dataset, read: Callable[[Dataset], R]) -> R:
    """What `read` makes of a dataset from `narrowed`. Where that fails because files of the narrow table are damaged or
    gone, it runs again without them, so that their parts are read; the files are deleted, and made again another time.
    Every step reads the table through this. InfrastructureError for what DuckDB cannot read otherwise."""
    try:
        try:
            return read(dataset)
        except _TROUBLE as error:
            sound = dataset.narrow if _is_of_request(error) else _sound_files(dataset)
            if len(sound) == len(dataset.narrow):
                raise
        return read(replace(dataset, narrow=sound))
    except duckdb.Error as error:
        raise InfrastructureError(f"{dataset.url} cannot be read: {one_line(error)}") from error


def _is_of_request(error: Exception) -> bool:
    """Whether no file is to blame. What DuckDB or the storage says may be about either."""
    return isinstance(error, UserError) and not isinstance(error.__cause__, duckdb.Error | OSError)


def _sound_files(dataset: Dataset) -> tuple[NarrowFile, ...]:
    """Deletes the others."""
    sound = tuple(file for file in dataset.narrow if _is_sound(dataset.output, file))
    for name in {file.name for file in dataset.narrow} - {file.name for file in sound}:
        with suppress(ClipmillError, OSError):
            dataset.output.delete(f"{NARROW}/{name}")
    return sound


def _is_sound(output: Output, file: NarrowFile) -> bool:
    try:
        with output.open(f"{NARROW}/{file.name}") as source:
            check_narrow_file(source, file)
    except _TROUBLE:
        return False
    return True


def narrow_files(dataset: Dataset, listed: Mapping[str, int] | None = None) -> list[NarrowFile]:
    """The files that have rows of the dataset, no part in two of them. What cannot be read is left out. listed: the
    folder's files and their bytes, where it was listed before."""
    if PLACE in dataset.schema.names:
        return []
    output, schema = dataset.output, narrow_schema(dataset.schema)
    listed = output.sizes(NARROW) if listed is None else listed
    sizes = {name: size for name, size in listed.items() if name.endswith(".parquet")}

    def read(name: str) -> NarrowFile | None:
        with suppress(OSError, ClipmillError), output.open(f"{NARROW}/{name}", sizes[name]) as file:
            return read_narrow_file(file, name, sizes[name], schema)
        return None  # or it was merged meanwhile

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="narrow") as pool:
        return fitting(dataset, (file for file in pool.map(read, sorted(sizes)) if file is not None))


def fitting(dataset: Dataset, files: Iterable[NarrowFile]) -> list[NarrowFile]:
    """Those whose parts are all as they were, the largest first where several have a part; in the dataset's order."""
    numbers = {part: number for number, part in enumerate(dataset.parts)}
    stamps, taken, chosen = dict(zip(dataset.parts, dataset.stamps, strict=True)), set[str](), []
    for file in sorted(files, key=lambda file: (-file.rows, -len(file.parts), file.name)):
        is_current = all(stamps.get(part) == stamp for part, stamp in zip(file.parts, file.stamps, strict=True))
        if file.parts and is_current and taken.isdisjoint(file.parts):
            taken.update(file.parts)
            chosen.append(file)
    return sorted(chosen, key=lambda file: numbers[file.parts[0]])
