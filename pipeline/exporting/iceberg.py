"""A dataset's parts registered as an Iceberg table: its metadata name the parts where they are, nothing is copied.

Iceberg has no 16-bit floats, so the table leaves such columns out: readers would misread their bytes. They stay in the
parts, which any reader of Parquet can join by shard and row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.output import Output
from ..errors import InfrastructureError, UserError, one_line
from ..job.export import ExportJob
from ..storage.s3_settings import S3Settings
from ..storage.urls import scheme_of
from .exportable import Written

CATALOG = "catalog.db"

_VERSION = "clipmill.version"  # of the dataset, among the snapshot's properties


def check_catalogue(output: Output, job: ExportJob) -> None:
    """UserError where OUT cannot hold the SQLite catalogue, and no other is named."""
    if job.catalog is None and not output.is_local:
        raise UserError(
            f"{output.url}: the catalogue is a SQLite file, which needs a local folder: choose one, or name a "
            "catalogue of your pyiceberg configuration with --catalog"
        )


def register(dataset: Dataset, output: Output, job: ExportJob) -> Written:
    """Make the table, or make it again where the dataset has changed. UserError for a table of another maker."""
    without = [field.name for field in dataset.schema if _is_half(field.type)]
    notes = (
        (f"without {', '.join(without)}: Iceberg has no 16-bit floats; read them from the parts",) if without else ()
    )
    with _quiet():
        catalog = _catalog(dataset, output, job.catalog)
        if catalog.table_exists(job.table):
            version = _version_of(catalog.load_table(job.table))
            if version is None:
                raise UserError(
                    f"--table {job.table}: a table of that name exists that clipmill did not make: choose another name"
                )
            if version == dataset.version:
                return Written(1, 1, notes)
            catalog.drop_table(job.table)
        catalog.create_namespace_if_not_exists(job.table.split(".")[0])
        table = catalog.create_table(job.table, dataset.schema, location=_uri(f"{output.url}/{job.table}"))
        with table.transaction() as change:
            change.add_files([_uri(dataset.url_of(part)) for part in dataset.parts], {_VERSION: dataset.version})
            with change.update_schema() as schema:
                for name in without:
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
    except Exception as error:  # catalogues raise anything
        raise UserError(f"--catalog {name}: {one_line(error)}") from error


def _properties(dataset: Dataset) -> dict[str, str]:
    """Properties of the table's client, with which it reads and writes through fsspec, as clipmill does everywhere."""
    settings = S3Settings.of(dataset.output.storage_options)
    properties = {
        "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
        "s3.endpoint": settings.endpoint,
        "s3.access-key-id": settings.key,
        "s3.secret-access-key": settings.secret,
        "s3.session-token": settings.token,
        "s3.region": settings.region,
        "s3.anonymous": "true" if settings.anonymous else None,
    }
    return {name: value for name, value in properties.items() if value is not None}


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
def _quiet() -> Iterator[None]:
    """Hides the library's warning, one for each file, that a dictionary is read as strings."""
    logger = logging.getLogger("pyiceberg")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"Iceberg: {one_line(error)}") from error
    finally:
        logger.setLevel(before)
