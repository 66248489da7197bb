"""A dataset as one Lance table: a copy with all columns. Workers write its fragments, of many parts each; one commit
shows them all, and earlier versions stay. Of a dataset that has grown only what is new is written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from ..dataset.layout import OWN
from ..dataset.output import Output
from ..errors import ClipmillError, InfrastructureError, UserError, one_line
from ..job.export import ExportJob
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from ..storage.s3_settings import S3Settings
from ..storage.urls import scheme_of
from .exportable import Exportable, Written

TABLE = "pairs.lance"

_RECORD = f"{OWN}/lance.json"  # the pieces of the table, and some that may never have got into it
_SCHEMES = ("file", "s3")
_ROWS = 1 << 20  # of a fragment at most, unless a part has more: Lance's own choice

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """What became of a run of parts."""

    states: Mapping[str, str]  # of the parts, when they were exported; see `Exportable.states`
    files: tuple[str, ...]  # of its fragments, whose names no others have


def write_lance(exportable: Exportable, output: Output, job: ExportJob, on_stage: OnStage) -> Written:
    """Write OUT/pairs.lance, or bring it up to date: pieces stay whose parts are as they were. UserError without the
    library, or for another store."""
    try:
        import lance  # noqa: F401
    except ImportError as error:
        raise UserError(f"--to lance needs the package pylance ({error}): pip install 'clipmill[lance]'") from error
    if scheme_of(output.url) not in _SCHEMES:
        raise UserError(f"{output.url}: Lance tables can only be written to local folders and s3://")
    states, there = exportable.states(), _fragments(output)
    kept = kept_pieces(_recorded(output), states, there)
    in_table = {part for piece in kept for part in piece.states}
    runs = runs_of([(part, rows) for part, rows in exportable.parts if part not in in_table])
    wanted = {file for piece in kept for file in piece.files}
    unwanted = sorted(fragment for file, fragment in there.items() if file not in wanted)
    if runs or unwanted:
        work = LanceFragments(exportable, output, "append" if kept else "overwrite" if there else "create")
        done = counted(scatter(work, runs, job.address), "exporting", "fragments", len(runs), on_stage)
        by_run = dict(done)
        pieces = [Piece({part: states[part] for part in run}, files_of(by_run[run])) for run in runs]
        # before the commit: what is not in the table counts for nothing
        output.write(_RECORD, json.dumps([asdict(piece) for piece in (*kept, *pieces)]).encode())
        _commit(work, [fragment for run in runs for fragment in by_run[run]], unwanted)
    return Written(len(kept) + len(runs), len(kept))


def _commit(work: LanceFragments, fragments: list[Any], unwanted: list[int]) -> None:
    """In a table that goes on, other fragments keep their numbers, so that its indices hold for them still."""
    from lance import LanceDataset, LanceOperation

    options = _options(work.output)
    operation: Any = LanceOperation.Overwrite(work.schema, fragments)
    try:
        if work.mode != "append":
            LanceDataset.commit(work.table, operation, storage_options=options)
            return
        version = LanceDataset(work.table, storage_options=options).version
        if unwanted:
            operation = LanceOperation.Update(removed_fragment_ids=unwanted, new_fragments=fragments)
        else:
            operation = LanceOperation.Append(fragments)
        LanceDataset.commit(work.table, operation, read_version=version, storage_options=options)
    except OSError as error:
        raise InfrastructureError(f"{work.table}: {one_line(error)}") from error


def _fragments(output: Output) -> dict[str, int]:
    """The table's data files, and the fragment of each; empty where there is no table. A fragment of which somebody
    deleted rows goes by another name."""
    import lance

    if not output.names(f"{TABLE}/_versions"):
        return {}
    try:
        table = lance.dataset(f"{output.url}/{TABLE}", storage_options=_options(output))
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"{output.url}/{TABLE}: {one_line(error)}") from error
    every = (fragment.metadata for fragment in table.get_fragments())
    return {f"{of.num_deletions or ''}{file}": of.id for of in every for file in files_of([of])}


def files_of(fragments: Iterable[Any]) -> tuple[str, ...]:
    return tuple(file.path for fragment in fragments for file in fragment.files)


def _recorded(output: Output) -> list[Piece]:
    """Nothing where the record is missing or damaged: then the table is written anew."""
    with suppress(ValueError, TypeError, AttributeError):
        return [Piece(piece["states"], tuple(piece["files"])) for piece in json.loads(output.read(_RECORD) or b"[]")]
    return []


def kept_pieces(recorded: Iterable[Piece], states: Mapping[str, str], there: Collection[str]) -> list[Piece]:
    """Those that are in the table still, and whose parts are all as they were. states: of the parts now; there: the
    table's data files."""
    return [
        piece
        for piece in recorded
        if all(states.get(part) == state for part, state in piece.states.items())
        and all(file in there for file in piece.files)
    ]


def runs_of(parts: Sequence[tuple[str, int]], most: int = _ROWS) -> list[Parts]:
    """Parts, with their rows, in order and together: as many as have `most` rows, and at least one."""
    runs: list[list[str]] = []
    room = 0
    for part, rows in parts:
        if rows > room or not runs:
            runs.append([])
            room = most
        runs[-1].append(part)
        room -= rows
    return [tuple(run) for run in runs]


@dataclass(frozen=True)
class LanceFragments:
    """Writes the exported rows of some parts, on any machine. Nobody sees them before they are committed."""

    exportable: Exportable
    output: Output
    mode: str  # "create", "overwrite" for a new version of a table, "append" where it goes on

    def __call__(self, parts: Parts) -> list[Any]:
        """Returns the fragments' metadata (lance.FragmentMetadata)."""
        from lance.fragment import write_fragments

        errors: list[ClipmillError] = []
        reader = pa.RecordBatchReader.from_batches(self.schema, _noting(errors, self._batches(parts)))
        try:
            return list(write_fragments(reader, self.table, mode=self.mode, storage_options=_options(self.output)))
        except OSError as error:
            raise errors[0] if errors else InfrastructureError(f"{self.table}: {one_line(error)}") from error

    @property
    def table(self) -> str:
        return f"{self.output.url}/{TABLE}"

    @cached_property
    def schema(self) -> pa.Schema:
        """Side tables are structs: Lance allows no dots in names, and takes `alias.column` for a field."""
        structs = [pa.field(alias, pa.struct(fields)) for alias, fields in self._beside.items()]
        return pa.schema([*self._own, *structs])

    @property
    def _own(self) -> list[pa.Field]:
        return [field for field in self.exportable.dataset.schema if field.name != "error"]

    @cached_property
    def _beside(self) -> dict[str, list[pa.Field]]:
        """By alias, the columns of side tables."""
        fields: dict[str, list[pa.Field]] = {}
        for name in self.exportable.more:
            if side := self.exportable.dataset.side_of(name):
                fields.setdefault(side[0].alias, []).append(side[0].schema.field(side[1]))
        return fields

    def _batches(self, parts: Parts) -> Iterator[pa.RecordBatch]:
        own, beside = [field.name for field in self._own], self._beside
        names = [*own, *(f"{alias}.{field.name}" for alias, fields in beside.items() for field in fields)]
        for part in parts:
            for table in self.exportable.tables(part, names, self.exportable.positions(part)):
                structs = [_struct(table, alias, fields) for alias, fields in beside.items()]
                rows = pa.table([*table.select(own).columns, *structs], names=self.schema.names)
                yield from rows.cast(self.schema).to_batches()


def _noting(errors: list[ClipmillError], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches. Our own errors are noted: Lance makes others of them, of many lines."""
    try:
        yield from batches
    except ClipmillError as error:
        errors.append(error)
        raise


def _struct(table: pa.Table, alias: str, fields: Sequence[pa.Field]) -> pa.StructArray:
    columns = [table[f"{alias}.{field.name}"].combine_chunks() for field in fields]
    return pa.StructArray.from_arrays(columns, fields=list(fields))


def _options(output: Output) -> dict[str, str]:
    if scheme_of(output.url) == "file":
        return {}
    settings = S3Settings.of(output.storage_options)
    options: dict[str, Any] = {
        "aws_endpoint": settings.endpoint,
        "aws_access_key_id": settings.key,
        "aws_secret_access_key": settings.secret,
        "aws_session_token": settings.token,
        "aws_region": settings.region,
        "aws_skip_signature": "true" if settings.anonymous else None,
        "allow_http": "true" if (settings.endpoint or "").startswith("http://") else None,
    }
    return {name: value for name, value in options.items() if value is not None}
