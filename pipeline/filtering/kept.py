"""The rows that stay, with the columns that a subset has of them: as the dataset's parts have them. Through SQL,
embeddings would lose their type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.dataset import Dataset
from ..dataset.narrow import NARROW, PLACE
from ..dataset.narrow_file import NarrowFile, NarrowReader, narrow_schema, unpacked_hex
from ..dataset.sql import files, identifier


def kept_in_part(dataset: Dataset, part: str, rows: pa.ChunkedArray, columns: Sequence[str]) -> pa.Table:
    """Some rows of a part, by their column `row`. columns: `row` among them."""
    table = dataset.read(part, columns)
    return table.filter(pc.is_in(table["row"], value_set=rows.combine_chunks().cast(pa.int32())))


def kept_in_table(
    dataset: Dataset, file: NarrowFile, places: npt.NDArray[np.int64], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """For each part of a file of the narrow table, the rows at these places of the file, ascending. Embeddings are read
    from the parts."""
    in_table = [name for name in columns if name in dataset.schema.names]
    ends = np.searchsorted(places, file.starts)
    with dataset.output.open(f"{NARROW}/{file.name}", file.bytes) as opened:
        reader = NarrowReader(opened, in_table, file.footer)
        for number, part in enumerate(file.parts):
            start, stop = file.starts[number : number + 2]
            kept = places[ends[number] : ends[number + 1]]
            if not len(kept):
                yield pa.table({})
                continue
            yield as_in_part(dataset, part, reader.rows(start, stop), kept - start, columns)


def through_pairs_or_not(dataset: Dataset, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the columns that are in the narrow table: first those that `pairs` shows as they are stored; then those
    that it changes, NaN into NULL and sha256 into text, and that must be read from the file itself."""
    schema = narrow_schema(dataset.schema)
    there = [name for name in columns if name in schema.names]
    changed = [name for name in there if name == "sha256" or pa.types.is_floating(schema.field(name).type)]
    return [name for name in there if name not in changed], changed


def as_stored(rows: pa.Table, dataset: Dataset, columns: Sequence[str]) -> pa.Table:
    """Some columns of what DuckDB makes of `pairs`, in the narrow table's types."""
    schema = narrow_schema(dataset.schema)
    return rows.select(list(columns)).cast(pa.schema([schema.field(name) for name in columns]))


def few_in_table(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    file: NarrowFile,
    places: npt.NDArray[np.int64],
    columns: Sequence[str],
) -> pa.Table:
    """As `kept_in_table`, for few rows of many: some columns that are in the file. Through SQL, which passes over what
    is between the rows. Not through `pairs`: see `through_pairs_or_not`."""
    url = f"{dataset.url}/{NARROW}/{file.name}"
    connection.register("wanted", pa.table({PLACE: places}))
    names = ", ".join(map(identifier, [PLACE, *columns]))
    source = f"(SELECT {names} FROM {files([url], 'file_row_number = true')}) SEMI JOIN wanted USING ({PLACE})"
    return as_stored(connection.sql(f"SELECT * FROM {source} ORDER BY {PLACE}").to_arrow_table(), dataset, columns)


def as_in_part(
    dataset: Dataset, part: str, rows: pa.Table, indices: npt.NDArray[np.int64], columns: Sequence[str]
) -> pa.Table:
    """Some rows of a part, chosen by their indices in `rows`, as the part has them. rows: from the narrow table, `row`
    with them. Columns that these lack, which are embeddings, are read from the part."""
    chosen, taken = pa.array(indices), {}
    for name in columns:
        if name == "shard":  # the file's dictionary has those of other parts, too
            shards = pa.array(np.zeros(len(chosen), np.int32)), pa.array([rows[name][0].as_py()])
            taken[name] = rows.schema.field(name), pa.DictionaryArray.from_arrays(*shards)
        elif name == "sha256":
            taken[name] = rows.schema.field(name).with_type(pa.string()), unpacked_hex(rows[name].take(chosen))
        elif name in rows.column_names:
            taken[name] = rows.schema.field(name), rows[name].take(chosen)
    if len(taken) < len(columns):
        others = kept_in_part(dataset, part, rows["row"].take(chosen), ["row", *(set(columns) - set(taken))])
        taken |= {name: (others.schema.field(name), others[name]) for name in columns if name not in taken}
    fields, arrays = zip(*(taken[name] for name in columns), strict=True)
    return pa.table(list(arrays), schema=pa.schema(list(fields)))
