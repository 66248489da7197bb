"""A dataset as one Lance table: a copy with all columns. Workers write its fragments, of many parts each; one commit
shows them all, and earlier versions stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.subset import version_of
from ..errors import InfrastructureError, UserError, one_line
from ..job.export import ExportJob
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from ..storage.s3_settings import S3Settings
from ..storage.urls import scheme_of
from .exportable import Exportable, Written

TABLE = "pairs.lance"

_DONE = f"{OWN}/lance.version"  # the version of the dataset, and the subset, that the table was made from
_SCHEMES = ("file", "s3")
_ROWS = 1 << 20  # of a fragment at most, unless a part has more: Lance's own choice

Parts = tuple[str, ...]


def write_lance(exportable: Exportable, output: Output, job: ExportJob, on_stage: OnStage) -> Written:
    """Write OUT/pairs.lance, replacing an older one. UserError without the library, or for another store."""
    try:
        import lance
    except ImportError as error:
        raise UserError(f"--to lance needs the package pylance ({error}): pip install 'clipmill[lance]'") from error
    if scheme_of(output.url) not in _SCHEMES:
        raise UserError(f"{output.url}: Lance tables can only be written to local folders and s3://")
    version = version_of(exportable.dataset, exportable.within).encode()
    if output.read(_DONE) == version:
        return Written(1, 1)
    output.delete(_DONE)
    mode = "overwrite" if output.names(f"{TABLE}/_versions") else "create"
    work, runs = LanceFragments(exportable, output, mode), runs_of(exportable.parts)
    done = counted(scatter(work, runs, job.address), "exporting", "fragments", len(runs), on_stage)
    by_run = dict(done)
    fragments = [fragment for run in runs for fragment in by_run[run]]
    try:
        lance.LanceDataset.commit(
            work.table, lance.LanceOperation.Overwrite(work.schema, fragments), storage_options=_options(output)
        )
    except OSError as error:
        raise InfrastructureError(f"{work.table}: {one_line(error)}") from error
    output.write(_DONE, version)
    return Written(1, 0)


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
    mode: str  # "create", or "overwrite" where there is a table: both number the columns anew, alike in every fragment

    def __call__(self, parts: Parts) -> list[Any]:
        """Returns the fragments' metadata (lance.FragmentMetadata)."""
        from lance.fragment import write_fragments

        reader = pa.RecordBatchReader.from_batches(self.schema, self._batches(parts))
        try:
            return list(write_fragments(reader, self.table, mode=self.mode, storage_options=_options(self.output)))
        except OSError as error:
            raise InfrastructureError(f"{self.table}: {one_line(error)}") from error

    @property
    def table(self) -> str:
        return f"{self.output.url}/{TABLE}"

    @cached_property
    def schema(self) -> pa.Schema:
        schema = self.exportable.dataset.schema
        return schema.remove(schema.get_field_index("error"))

    def _batches(self, parts: Parts) -> Iterator[pa.RecordBatch]:
        for part in parts:
            for table in self.exportable.tables(part, self.schema.names, self.exportable.positions(part)):
                yield from table.cast(self.schema).to_batches()


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
