"""clip-retrieval's layout: `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy` and `metadata/metadata_0.parquet`, and so
on; rows at the same position in files of the same number belong together (https://github.com/rom1504/clip-retrieval)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import DatasetModel
from ..dataset.output import Output
from ..job.export import ExportJob
from ..running.stages import OnStage
from .exportable import Exportable, Positions, Side, Written, halves_of, spread
from .npy import Pieces, write_npy

FOLDERS = ("img_emb", "text_emb", "metadata")

_ARRAYS: dict[Side, str] = {"image": "img_emb", "text": "text_emb"}
_SOURCE = b"clipmill.source"
_FIRST = ("image_path", "caption")  # what clip-retrieval itself writes


@dataclass(frozen=True)
class Slice:
    """The exported rows of a part from `start` to before `stop`."""

    part: str
    start: int
    stop: int


@dataclass(frozen=True)
class Numbered:
    """The files of one number. Never without rows."""

    number: str  # with leading zeros, so that names sort as numbers do
    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        return sum(piece.stop - piece.start for piece in self.slices)

    def npy(self, side: Side) -> str:
        return f"{_ARRAYS[side]}/{_ARRAYS[side]}_{self.number}.npy"

    @property
    def metadata(self) -> str:
        return f"metadata/metadata_{self.number}.parquet"


def write_clip_retrieval(exportable: Exportable, output: Output, job: ExportJob, on_stage: OnStage) -> Written:
    model = exportable.dataset.model(job.alias)
    files = numbered(exportable.parts, job.rows_per_file)
    work = ClipRetrievalFile(exportable, output, model, frozenset(output.names("metadata")))
    written = spread(work, files, job.address, on_stage)
    wanted = {name for file in files for name in (file.metadata, *map(file.npy, exportable.sides))}
    for name in {f"{folder}/{name}" for folder in FOLDERS for name in output.names(folder)} - wanted:
        output.delete(name)  # there were more files once
    return written


def numbered(parts: Sequence[tuple[str, int]], most: int) -> list[Numbered]:
    """Parts in order, as many to a file as `most` rows allow; larger parts are cut into pieces."""
    files: list[list[Slice]] = []
    room = 0
    for part, rows in parts:
        if rows > room:
            files.append([])
            room = most
        for start in range(0, rows, most):
            if start:
                files.append([])
                room = most
            stop = min(start + most, rows)
            files[-1].append(Slice(part, start, stop))
            room -= stop - start
    width = len(str(len(files) - 1))
    return [Numbered(f"{number:0{width}}", tuple(slices)) for number, slices in enumerate(files)]


@dataclass(frozen=True)
class ClipRetrievalFile:
    """Writes the files of one number, on any machine, unless the same files are there already."""

    exportable: Exportable
    output: Output
    model: DatasetModel
    done: frozenset[str]  # metadata files that are there, without their folder

    def __call__(self, files: Numbered) -> bool:
        """Returns whether they were written now."""
        source = self._source(files)
        if files.metadata.rpartition("/")[2] in self.done and self._source_there(files) == source:
            return False
        positions = [self.exportable.positions(piece.part)[piece.start : piece.stop] for piece in files.slices]
        for side, column in self.exportable.columns(self.model).items():
            with self.output.staged(files.npy(side), replace=True) as path, path.open("wb") as file:
                write_npy(file, files.rows, self.model.dim, self._vectors(files, positions, column))
        # last: once it is there, all files are
        with (
            self.output.staged(files.metadata, replace=True) as path,
            pq.ParquetWriter(path, self._schema, compression="zstd") as writer,
        ):
            columns = list(self._columns.values())
            for table in self._tables(files, positions, list(dict.fromkeys(columns))):
                writer.write_table(pa.table([table[column] for column in columns], schema=self._schema))
            writer.add_key_value_metadata({_SOURCE: source})
        return True

    def _source(self, files: Numbered) -> str:
        slices = [(piece, self.exportable.source(piece.part)) for piece in files.slices]
        return hashlib.sha256(repr(slices).encode()).hexdigest()

    def _source_there(self, files: Numbered) -> str:
        with self.output.open(files.metadata) as file:
            return (pq.ParquetFile(file).metadata.metadata or {}).get(_SOURCE, b"").decode()

    def _tables(self, files: Numbered, positions: Sequence[Positions], columns: Sequence[str]) -> Iterator[pa.Table]:
        for piece, rows in zip(files.slices, positions, strict=True):
            yield from self.exportable.tables(piece.part, columns, rows)

    def _vectors(self, files: Numbered, positions: Sequence[Positions], column: str) -> Pieces:
        for table in self._tables(files, positions, [column]):
            yield halves_of(table[column])

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Metadata column -> the dataset's: an image is called by its key, as clip-retrieval does with WebDataset."""
        schema = self.exportable.dataset.schema
        rest = [
            field.name
            for field in schema
            if not pa.types.is_fixed_size_list(field.type) and field.name not in (*_FIRST, "error")
        ]
        return {"image_path": "key", "caption": "caption", **{name: name for name in (*rest, *self.exportable.more)}}

    @cached_property
    def _schema(self) -> pa.Schema:
        types = self.exportable.dataset.types
        return pa.schema([pa.field(name, types[column]) for name, column in self._columns.items()])
