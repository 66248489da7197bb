"""A dataset's parts registered as an Iceberg table: its metadata name the parts where they are, nothing is copied.

Iceberg has no 16-bit floats, so the table leaves such columns out: readers would misread their bytes. They stay in the
parts, which any reader of Parquet can join by shard and row.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..errors import InfrastructureError, UserError, one_line
from ..job.export import ExportJob
from ..storage.s3_settings import S3Settings
from ..storage.urls import scheme_of
from .exportable import Written

CATALOG = "catalog.db"

_RECORD = f"{OWN}/iceberg.json"  # the dataset's version in the table, and the parts' stamps then
_OWN = "clipmill.own"  # a property of tables that clipmill makes
_AT_ONCE = 16  # footers read
_VERSION = "clipmill.version"  # of the dataset, among the snapshot's properties


def check_catalogue(output: Output, job: ExportJob) -> None:
    """UserError where OUT cannot hold the SQLite catalogue, and no other is named."""
    if job.catalog is None and not output.is_local:
        raise UserError(
            f"{output.url}: the catalogue is a SQLite file, which needs a local folder: choose one, or name a "
            "catalogue of your pyiceberg configuration with --catalog"
        )


def register(dataset: Dataset, output: Output, job: ExportJob) -> tuple[Written, int]:
    """Make the table, or bring it up to date; and how many rows it has. New parts are added as a snapshot; where others
    were made anew since, the table is. UserError for a table of another maker."""
    without = [field.name for field in dataset.schema if _is_half(field.type)]
    notes = (
        (f"without {', '.join(without)}: Iceberg has no 16-bit floats; read them from the parts",) if without else ()
    )
    with _quiet():
        catalog = _catalog(dataset, output, job.catalog)
        table = catalog.load_table(job.table) if catalog.table_exists(job.table) else None
        version = _version_of(table) if table is not None else None
        if table is not None and version is None:
            raise UserError(
                f"--table {job.table}: a table of that name exists that clipmill did not make: choose another name"
            )
        if table is not None and version == dataset.version:
            return Written(1, 1, notes), _rows_of(table)
        known = _registered(output, dataset, version)
        if table is None or not known:
            table = _made(catalog, dataset, output, job.table)
        with table.transaction() as change:
            with change.update_snapshot({_VERSION: dataset.version}).fast_append() as snapshot:
                new = [_uri(dataset.url_of(part)) for part in dataset.parts if part not in known]
                for file in _data_files(table, new):
                    snapshot.append_data_file(file)
            with change.update_schema() as schema:
                for name in without if not known else ():
                    schema.delete_column(name)
        record = {"version": dataset.version, "stamps": dict(zip(dataset.parts, dataset.stamps, strict=True))}
        output.write(_RECORD, json.dumps(record).encode())
    return Written(1, 0, notes), _rows_of(table)


def _registered(output: Output, dataset: Dataset, version: str | None) -> set[str]:
    """The parts that are in the table of this version; none where one of them was made anew since, or where that is not
    known."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        record = json.loads(output.read(_RECORD) or b"{}")
        stamps = dict(zip(dataset.parts, dataset.stamps, strict=True))
        if record["version"] == version and record["stamps"].items() <= stamps.items():
            return set(record["stamps"])
    return set()


def _made(catalog: Any, dataset: Dataset, output: Output, name: str) -> Any:
    if catalog.table_exists(name):
        catalog.drop_table(name)
    catalog.create_namespace_if_not_exists(name.split(".")[0])
    location, own = _uri(f"{output.url}/{name}"), {_OWN: "true"}
    table = catalog.create_table(name, dataset.schema, location=location, properties=own)
    with table.transaction() as change:  # the parts have no numbers for their columns
        change.set_properties({"schema.name-mapping.default": table.schema().name_mapping.model_dump_json()})
    return table


def _data_files(table: Any, urls: Sequence[str]) -> Iterator[Any]:
    """What the table's metadata say of each file, from its footer. By the table's first schema: later ones lack columns
    that the files have."""
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    first = table.metadata.model_copy(update={"current_schema_id": min(table.schemas())})
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="footers") as pool:
        yield from pool.map(lambda url: parquet_file_to_data_file(table.io, first, url), urls)


def _rows_of(table: Any) -> int:
    return int(table.current_snapshot().summary.additional_properties["total-records"])


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
        return "" if _OWN in table.properties else None  # whoever made it was killed before it had rows
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
