"""DataComp's layout: for each part `NAME.parquet` with the metadata, and `NAME.npz` with the embeddings of its rows.

Columns and arrays are called as in CommonPool (Gadre et al. 2023, https://github.com/mlfoundations/datacomp).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import DatasetModel
from ..dataset.output import Output
from ..errors import UserError
from ..job.export import ExportJob
from ..running.stages import OnStage
from .exportable import Exportable, Positions, Written, halves_of, spread
from .npy import Pieces, write_npz

_SHORT = {
    **dict.fromkeys(("ViT-B/32", "ViT-B-32", "ViT-B-32-quickgelu"), "b32"),
    **dict.fromkeys(("ViT-L/14", "ViT-L-14", "ViT-L-14-quickgelu"), "l14"),
}
_SIDES = {"image": "img", "text": "txt"}
_SOURCE = b"clipmill.source"


def names_of(models: Sequence[DatasetModel]) -> dict[str, str]:
    """By alias, the name of each model in the columns: `b32` and `l14` for DataComp's own models, else the alias."""
    short = {model.alias: _SHORT.get(model.variant, model.alias or _word(model.variant)) for model in models}
    times = Counter(short.values())
    return {alias: name if times[name] == 1 else alias for alias, name in short.items()}


def write_datacomp(exportable: Exportable, output: Output, job: ExportJob, on_stage: OnStage) -> Written:
    work = DataCompPart(exportable, output, frozenset(output.names()))
    for name in exportable.more:
        if (source := work.sources[name][0]) != name:
            raise UserError(f"--column {name}: DataComp's layout has another column of this name: its rows' {source}")
    parts = [part for part, _ in exportable.parts]
    written = spread(work, parts, job.address, on_stage)
    for name in output.names() - {name for part in parts for name in (part, npz_of(part))}:
        if name.endswith((".parquet", ".npz")):  # of parts that had rows once
            output.delete(name)
    if not exportable.without_uid:
        return written
    return replace(written, notes=(f"{exportable.without_uid:,} rows have no uid, which DataComp's own tools need",))


@dataclass(frozen=True)
class DataCompPart:
    """Writes the exported rows of a part, on any machine, unless the same rows are there already."""

    exportable: Exportable
    output: Output
    done: frozenset[str]  # files that are there

    def __call__(self, part: str) -> bool:
        """Returns whether it was written now."""
        source = self.exportable.source(part)
        if part in self.done and self._source_there(part) == source:
            return False
        positions = self.exportable.positions(part)
        with self.output.staged(npz_of(part), replace=True) as path:
            write_npz(path, {name: self._array(part, positions, *of) for name, of in self._arrays.items()})
        # last: once it is there, both are
        with (
            self.output.staged(part, replace=True) as path,
            pq.ParquetWriter(path, self._schema, compression="zstd") as writer,
        ):
            for table in self.exportable.tables(part, self._columns, positions):
                writer.write_table(self._metadata(table))
            writer.add_key_value_metadata({_SOURCE: source})
        return True

    def _source_there(self, part: str) -> str:
        with self.output.open(part) as file:
            return (pq.ParquetFile(file).metadata.metadata or {}).get(_SOURCE, b"").decode()

    @cached_property
    def _arrays(self) -> dict[str, tuple[str, int]]:
        """Name -> the dataset's column, and its dim."""
        models = self.exportable.dataset.models
        names = names_of(models)
        return {
            f"{names[model.alias]}_{_SIDES[side]}": (column, model.dim)
            for model in models
            for side, column in self.exportable.columns(model).items()
        }

    def _array(self, part: str, positions: Positions, column: str, dim: int) -> tuple[int, int, Pieces]:
        tables = self.exportable.tables(part, [column], positions)
        return len(positions), dim, (halves_of(table[column]) for table in tables)

    @cached_property
    def sources(self) -> dict[str, tuple[str, pa.DataType]]:
        """Metadata column -> the dataset's column, and the type here."""
        dataset = self.exportable.dataset
        names = names_of(dataset.models)

        def original(side: str) -> str:
            """The column of the size as crawled, where the dataset has it: images may have been made smaller since."""
            name = f"original_{side}"
            known = name in dataset.schema.names and pa.types.is_integer(dataset.schema.field(name).type)
            return name if known else side

        layout = {
            "uid": ("uid", pa.string()),
            "url": ("url", pa.string()),
            "text": ("caption", pa.string()),
            "original_width": (original("width"), pa.int64()),
            "original_height": (original("height"), pa.int64()),
            **{
                f"clip_{names[model.alias]}_similarity_score": (f"{model.prefix}similarity", pa.float32())
                for model in dataset.models
            },
            "sha256": ("sha256", pa.string()),
            "key": ("key", pa.string()),
            "shard": ("shard", pa.dictionary(pa.int32(), pa.string())),
            "row": ("row", pa.int32()),
        }
        return layout | {name: (name, dataset.types[name]) for name in self.exportable.more if name not in layout}

    @cached_property
    def _schema(self) -> pa.Schema:
        return pa.schema([pa.field(name, kind) for name, (_, kind) in self.sources.items()])

    @cached_property
    def _columns(self) -> list[str]:
        return list(dict.fromkeys(column for column, _ in self.sources.values()))

    def _metadata(self, table: pa.Table) -> pa.Table:
        return pa.table(
            [table[column].cast(kind) for column, kind in self.sources.values()],
            schema=self._schema,
        )


def npz_of(part: str) -> str:
    return f"{part.removesuffix('.parquet')}.npz"


def _word(variant: str) -> str:
    return re.sub(r"\W+", "_", variant.lower())
