"""A dataset as one Lance table: a copy with all columns, written in one go, which appears when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.subset import version_of
from ..errors import InfrastructureError, UserError, one_line
from ..job.export import ExportJob
from ..running.stages import OnStage, counted
from ..storage.s3_settings import S3Settings
from ..storage.urls import scheme_of
from .exportable import Exportable, Written

TABLE = "pairs.lance"

_DONE = f"{OWN}/lance.version"  # the version of the dataset, and the subset, that the table was made from
_SCHEMES = ("file", "s3")


def write_lance(exportable: Exportable, output: Output, _: ExportJob, on_stage: OnStage) -> Written:
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
    schema = exportable.dataset.schema.remove(exportable.dataset.schema.get_field_index("error"))
    reader = pa.RecordBatchReader.from_batches(schema, _batches(exportable, schema, on_stage))
    mode = "overwrite" if output.names(f"{TABLE}/_versions") else "create"
    try:
        lance.write_dataset(reader, f"{output.url}/{TABLE}", mode=mode, storage_options=_options(output))
    except OSError as error:
        raise InfrastructureError(f"{output.url}/{TABLE}: {one_line(error)}") from error
    output.write(_DONE, version)
    return Written(1, 0)


def _batches(exportable: Exportable, schema: pa.Schema, on_stage: OnStage) -> Iterator[pa.RecordBatch]:
    for part, _ in counted(exportable.parts, "exporting", "parts", len(exportable.parts), on_stage):
        for table in exportable.tables(part, schema.names, exportable.positions(part)):
            yield from table.cast(schema).to_batches()


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
