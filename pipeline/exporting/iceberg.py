"""A dataset's parts registered as an Iceberg table: its metadata name the parts where they are, nothing is copied.

Iceberg has no 16-bit floats, so columns of them are no columns of the table: other readers would take their bytes for
something else. They stay in the parts, which any reader of Parquet can join by shard and row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.output import Output
from ..errors import InfrastructureError, UserError
from ..job.export import ExportJob
from ..storage.s3_settings import S3Settings
from ..storage.urls import scheme_of
from .exportable import Written

CATALOG = "catalog.db"

_VERSION = "clipmill.version"  # of the dataset, among the snapshot's properties


def check_place(output: Output, job: ExportJob) -> None:
    """UserError where there can be no catalogue."""
    if job.catalog is None and not output.is_local:
        raise UserError(
            f"{output.url}: the catalogue is a SQLite file, so OUT must be a local folder; or name a catalogue of your "
            "pyiceberg configuration with --catalog"
        )


def register(dataset: Dataset, output: Output, job: ExportJob) -> Written:
    """A table of another version of the dataset is made anew; one that is not ours is refused."""
    lacking = [field.name for field in dataset.schema if _is_half(field.type)]
    notes = (
        (f"without {', '.join(lacking)}: Iceberg has no 16-bit floats; read them from the parts",) if lacking else ()
    )
    with _speaking_plainly():
        catalog = _catalog(dataset, output, job.catalog)
        if catalog.table_exists(job.table):
            version = _version_of(catalog.load_table(job.table))
            if version is None:
                raise UserError(f"--table {job.table}: a table of that name is there that clipmill did not make")
            if version == dataset.version:
                return Written(1, 1, notes)
            catalog.drop_table(job.table)
        catalog.create_namespace_if_not_exists(job.table.split(".")[0])
        table = catalog.create_table(job.table, dataset.schema, location=_uri(f"{output.url}/{job.table}"))
        with table.transaction() as change:
            change.add_files([_uri(dataset.url_of(part)) for part in dataset.parts], {_VERSION: dataset.version})
            with change.update_schema() as schema:
                for name in lacking:
                    schema.delete_column(name)
    return Written(1, 0, notes)


def _catalog(dataset: Dataset, output: Output, name: str | None) -> Any:
    try:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.catalog.sql import SqlCatalog
    except ImportError as error:
        raise UserError(f"--to iceberg needs pyiceberg ({error}): pip install 'clipmill[iceberg]'") from error
    if name is None:
        return SqlCatalog("clipmill", uri=f"sqlite:///{output.url}/{CATALOG}", **_properties(dataset))
    try:
        return load_catalog(name, **_properties(dataset))
    except Exception as error:  # catalogues raise what they like
        raise UserError(f"--catalog {name}: {' '.join(str(error).split())}") from error


def _properties(dataset: Dataset) -> dict[str, str]:
    """For the table's client: files are read and written by fsspec, as everywhere here."""
    found = S3Settings.of(dataset.output.storage_options)
    said = {
        "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
        "s3.endpoint": found.endpoint,
        "s3.access-key-id": found.key,
        "s3.secret-access-key": found.secret,
        "s3.session-token": found.token,
        "s3.region": found.region,
        "s3.anonymous": "true" if found.anonymous else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _uri(url: str) -> str:
    return f"file://{url}" if scheme_of(url) == "file" else url


def _version_of(table: Any) -> str | None:
    snapshot = table.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return None
    version: str | None = snapshot.summary.additional_properties.get(_VERSION)
    return version


def _is_half(kind: pa.DataType) -> bool:
    return pa.types.is_float16(kind.value_type if pa.types.is_fixed_size_list(kind) else kind)


@contextmanager
def _speaking_plainly() -> Iterator[None]:
    """Without the library's warning for each file that a dictionary is read as strings."""
    logger = logging.getLogger("pyiceberg")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"Iceberg: {' '.join(str(error).split())}") from error
    finally:
        logger.setLevel(before)
