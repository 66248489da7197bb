"""Which rows of a table are of forgotten rows of a dataset, and tell something of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset

_PLACES = (("shard", "row"), ("source_shard", "source_row"))
_TELLS_NOTHING = ("shard", "row", "error")


def held_rows(file: pq.ParquetFile, dataset: Dataset) -> Iterator[npt.NDArray[np.int64]]:
    """Of each row group of a table, the forgotten rows of which it holds something: their places in the group."""
    names = file.schema_arrow.names
    place = next((place for place in _PLACES if set(place) <= set(names)), None)
    if place is None:
        return
    rows_of = {of_part.shard: of_part.rows for of_part in dataset.forgotten.parts.values()}
    for number in range(file.metadata.num_row_groups):
        table = file.read_row_group(number, columns=list(place))
        gone = _are_forgotten(table[place[0]], table[place[1]].to_numpy(), rows_of)
        if len(gone):
            content = file.read_row_group(number).take(pa.array(gone))
            gone = gone[_tells_something(content)]
        yield gone


def _are_forgotten(
    shards: pa.ChunkedArray, rows: npt.NDArray[np.int32], rows_of: dict[str, npt.NDArray[np.int32]]
) -> npt.NDArray[np.int64]:
    encoded = shards.cast(pa.string()).combine_chunks().dictionary_encode()
    numbers = encoded.indices.to_numpy(zero_copy_only=False)
    gone = np.zeros(len(rows), np.bool_)
    for number, shard in enumerate(encoded.dictionary.to_pylist()):
        if shard in rows_of:
            gone |= (numbers == number) & np.isin(rows, rows_of[shard])
    return np.flatnonzero(gone)


def _tells_something(table: pa.Table) -> npt.NDArray[np.bool_]:
    """The rows that have a key or any value besides their place and error."""
    tells = np.zeros(len(table), np.bool_)
    for name in table.column_names:
        if name not in _TELLS_NOTHING:
            column = table[name]
            there = pc.not_equal(column, "") if name == "key" else column.is_valid()
            tells |= pc.fill_null(there, False).to_numpy().astype(bool)
    return tells
