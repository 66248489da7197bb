"""New shards that `reshard` wrote, rewritten without samples of forgotten rows. What stays, stays byte for byte."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Collection, Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.output import Output
from ..inputs.tario import BLOCK
from .held import held_rows

_COPIED = 1 << 20  # bytes at a time


def rewritten(output: Output, dataset: Dataset) -> tuple[int, int]:
    """How many shards were rewritten, and how many samples are gone."""
    shards = samples = 0
    for name in sorted(name for name in output.names() if name.endswith(".parquet")):
        with output.open(name) as file:
            parquet = pq.ParquetFile(file)
            gone, start = [np.empty(0, np.int64)], 0
            for number, rows in enumerate(held_rows(parquet, dataset)):
                gone.append(rows + start)
                start += parquet.metadata.row_group(number).num_rows
            places = np.concatenate(gone)
            if not len(places):
                continue
            table = parquet.read()
        keys = frozenset(table["key"].take(pa.array(places)).to_pylist())
        _rewrite(output, name.removesuffix(".parquet"), table, places, keys)
        shards, samples = shards + 1, samples + len(places)
    return shards, samples


def _rewrite(output: Output, name: str, table: pa.Table, gone: npt.NDArray[np.int64], keys: Collection[str]) -> None:
    """The table goes last: until then it tells which samples are to go."""
    with (
        output.open(f"{name}.tar") as file,
        output.staged(f"{name}.tar", replace=True) as path,
        path.open("wb") as tar,
    ):
        for piece in _without(file, keys):
            tar.write(piece)
        tar.write(bytes(2 * BLOCK))  # the end mark
        tar.write(bytes(-tar.tell() % tarfile.RECORDSIZE))
    stays = np.ones(len(table), np.bool_)
    stays[gone] = False
    stats = json.loads(output.read(f"{name}_stats.json") or b"{}")
    left = int(stays.sum())
    stats |= {"count": left, "successes": left, "status_dict": {"success": left}}
    output.write(f"{name}_stats.json", json.dumps(stats, indent=4).encode())
    with output.staged(f"{name}.parquet", replace=True) as path:
        pq.write_table(table.filter(pa.array(stays)), path, compression="zstd")


def _without(file: BinaryIO, keys: Collection[str]) -> Iterator[bytes]:
    """The members of a tar, as `reshard` writes them, but for those of some samples."""
    with tarfile.open(fileobj=file, mode="r|") as source:
        for member in source:
            if member.name.partition(".")[0] in keys:
                continue
            yield member.tobuf(tarfile.GNU_FORMAT)
            content = source.extractfile(member)
            assert content is not None  # `reshard` writes files alone
            while piece := content.read(_COPIED):
                yield piece
            yield bytes(-member.size % BLOCK)
