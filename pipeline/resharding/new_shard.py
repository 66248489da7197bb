"""One new WebDataset shard as img2dataset writes them: a tar, a table beside it and its statistics."""

from __future__ import annotations

import json
import re
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.side_table import with_columns
from ..dataset.subset import Subset
from ..errors import InputError
from ..inputs.grouping import SampleFiles
from ..inputs.tario import BLOCK, MAX_MEMBER
from ..records import Shard
from .new_table import NewTable
from .reshard_plan import NewShard, Picked
from .source_samples import LOCATION, Reading, SourceSamples

_UNUSUAL = re.compile(r"[^a-z0-9._-]")


@dataclass(frozen=True)
class Written:
    """The result of one new shard."""

    tar_bytes: int
    requests: int  # for bytes within source shards
    request_bytes: int
    whole_shards: int  # read from beginning to end


@dataclass(frozen=True)
class WriteShard:
    """Writes new shards. The same samples give the same tar and the same table, byte for byte."""

    dataset: Dataset
    subset: Subset | None  # whose rows are wanted; None: all embedded rows
    output: Output
    digits: tuple[int, int]  # of a shard's number, and of a sample's within it
    beside: tuple[str, ...] = ()  # columns of side tables, as `alias.column`
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def name_of(self, number: int) -> str:
        return f"{number:0{self.digits[0]}d}"

    def __call__(self, new: NewShard) -> Written:
        """Commit the tar last: a shard whose tar exists is done."""
        began, name, reading = time.time(), self.name_of(new.number), Reading()
        table = NewTable()
        with self.output.staged(f"{name}.tar", replace=True) as path:
            with path.open("wb") as tar:
                for picked in new.picked:
                    rows, samples = self._samples(picked, reading)
                    table.begin(rows)
                    for group in samples:
                        key = f"{name}{len(table):0{self.digits[1]}d}"
                        _add(tar, key, group, picked.source.shard)
                        table.add(key, group)
                tar.write(bytes(2 * BLOCK))  # the end mark
                tar.write(bytes(-tar.tell() % tarfile.RECORDSIZE))
            with self.output.staged(f"{name}.parquet", replace=True) as beside:
                pq.write_table(table.finished(), beside, compression="zstd")
            self.output.write(f"{name}_stats.json", _stats(len(table), began))
            size = path.stat().st_size
        return Written(size, reading.requests, reading.request_bytes, reading.whole_shards)

    def _samples(self, picked: Picked, reading: Reading) -> tuple[pa.Table, SourceSamples]:
        """Their rows in the dataset, and the samples themselves."""
        part, shard = picked.source.part, picked.source.shard
        rows, keys = self._wanted(picked)
        columns = [field.name for field in self.dataset.schema if not pa.types.is_fixed_size_list(field.type)]
        with self.dataset.output.open(part_path(part)) as file:
            opened = pq.ParquetFile(file)
            locations = opened.read(list(LOCATION))
            table = _read_rows(opened, columns, rows)
        for side in self.dataset.sides:
            side.check(self.dataset, part, len(locations))
        table = with_columns(table, self.dataset, part, self.beside)
        if keys is not None and table["key"].to_pylist() != keys:
            raise InputError(
                f"{self.dataset.url}: {part} has changed since the subset was made from it; make the subset again"
            )
        return table, SourceSamples(shard, locations, rows.tolist(), picked.source.keys, self.storage_options, reading)

    def _wanted(self, picked: Picked) -> tuple[npt.NDArray[np.int64], list[str] | None]:
        """The numbers of the wanted rows in the part, and their keys where a subset knows them."""
        part = picked.source.part
        if self.subset is None:
            errors = self.dataset.read(part, ["error"])["error"]
            return np.flatnonzero(errors.is_null().to_numpy())[picked.positions], None
        with self.subset.output.open(part_path(part)) as file:
            table = pq.ParquetFile(file).read(["key", "row"]).take(picked.positions)
        return table["row"].to_numpy().astype(np.int64), table["key"].to_pylist()


def _read_rows(file: pq.ParquetFile, columns: list[str], rows: npt.NDArray[np.int64]) -> pa.Table:
    """rows: ascending. Only the row groups between the first and the last are read."""
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    ends = np.cumsum(sizes)
    first, last = np.searchsorted(ends, rows[[0, -1]], side="right").tolist()
    table = file.read_row_groups(list(range(first, last + 1)), columns)
    return table.take(rows - (ends[first] - sizes[first]))


def _add(tar: BinaryIO, key: str, group: SampleFiles, shard: Shard) -> None:
    names = _extensions([file.extension for file in group.files])
    for (extension, data, _, fault), name in zip(group.files, names, strict=True):
        if data is None:
            reason = fault or f"file larger than {MAX_MEMBER >> 20} MiB"
            raise InputError(f"{shard.url}: {group.key}.{extension} cannot be copied ({reason}); leave this row out")
        member = tarfile.TarInfo(f"{key}.{name}")  # no owner and no time: the same bytes every time
        member.size = len(data)
        tar.write(member.tobuf(tarfile.GNU_FORMAT))  # `TarFile.addfile` takes twice as long
        tar.write(data)
        tar.write(bytes(-len(data) % BLOCK))


def _extensions(extensions: Sequence[str]) -> list[str]:
    """Extensions in the new shard. A middle that all files share was part of the sample's name, which is new; of the
    others, only what is harmless in file names stays."""
    middles = {extension.rpartition(".")[0] for extension in extensions}
    names = [extension.rpartition(".")[2] for extension in extensions] if len(middles) == 1 else list(extensions)
    names = [_UNUSUAL.sub("_", name) for name in names]
    if len(set(names)) < len(names):
        names = [f"{number}.{name.rpartition('.')[2]}" for number, name in enumerate(names)]
    return names


def _stats(samples: int, began: float) -> bytes:
    """The statistics file that img2dataset writes beside a shard."""
    now = time.time()
    stats = {
        "count": samples,
        "successes": samples,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "duration": now - began,
        "start_time": began,
        "end_time": now,
        "status_dict": {"success": samples},
    }
    return json.dumps(stats, indent=4).encode()
