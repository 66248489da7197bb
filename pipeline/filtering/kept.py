"""The rows that stay, with the columns that a subset has of them: as the dataset's parts have them. Through SQL,
embeddings would lose their type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.dataset import Dataset
from ..dataset.narrow import NARROW
from ..dataset.narrow_file import NarrowFile, NarrowReader, unpacked_hex


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
    elsewhere = [name for name in columns if name not in in_table]
    ends = np.searchsorted(places, file.starts)
    with dataset.output.open(f"{NARROW}/{file.name}") as opened:
        reader = NarrowReader(opened, in_table)
        for number, part in enumerate(file.parts):
            start, stop = file.starts[number : number + 2]
            kept = places[ends[number] : ends[number + 1]]
            if not len(kept):
                yield pa.table({})
                continue
            table = _as_in_parts(reader.rows(start, stop), kept - start)
            if elsewhere:
                others = kept_in_part(dataset, part, table["row"], ["row", *elsewhere])
                for name in elsewhere:
                    table = table.append_column(name, others[name])
            yield table.select(list(columns))


def _as_in_parts(rows: pa.Table, kept: npt.NDArray[np.int64]) -> pa.Table:
    """Some rows of a part, by their positions. The file's dictionary of shards has those of other parts, too."""
    columns = {}
    for name in rows.column_names:
        column = rows[name]
        if name == "shard":
            shards = pa.array(np.zeros(len(kept), np.int32)), pa.array([column[0].as_py()])
            columns[name] = pa.DictionaryArray.from_arrays(*shards)
        else:
            taken = column.take(pa.array(kept))
            columns[name] = unpacked_hex(taken) if name == "sha256" else taken
    fields = [f.with_type(pa.string()) if f.name == "sha256" else f for f in rows.schema]
    return pa.table(list(columns.values()), schema=pa.schema(fields))
