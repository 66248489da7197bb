"""A dataset's parts registered as an Iceberg table: its metadata name the parts where they are, nothing is copied.

Iceberg has no 16-bit floats, so the table leaves such columns out: readers would misread their bytes. They stay in the
parts, which any reader of Parquet can join by shard and row.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.dataset import Dataset
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.side_table import SideTable, check_sides, identity_of
from ..errors import InfrastructureError, InputError, UserError, one_line
from ..job.export import ExportJob
from ..storage.s3_settings import S3Settings
from ..storage.urls import scheme_of
from .exportable import Written

CATALOG = "catalog.db"

_RECORD = OWN + "/iceberg{}.json"  # the version in a table, and the stamps of its files then
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


@dataclass(frozen=True)
class Registered:
    """Files that a table names: a dataset's parts, or the files of a side table."""

    name: str  # the table's
    prefix: str  # of its columns, where people are told of them
    record: str  # where the stamps are kept that the files had
    schema: pa.Schema
    urls: Mapping[str, str]  # by part
    stamps: Mapping[str, Any]  # by part
    version: str  # changes when a file does

    @classmethod
    def all_of(cls, dataset: Dataset, name: str) -> list[Registered]:
        urls = {part: dataset.url_of(part) for part in dataset.parts}
        stamps = dict(zip(dataset.parts, dataset.stamps, strict=True))
        registered = [cls(name, "", _RECORD.format(""), dataset.schema, urls, stamps, dataset.version)]
        for side in dataset.sides:
            urls = {part: side.url_of(part) for part in dataset.parts}
            of_side = {part: side.stamp(part) for part in dataset.parts}
            record, version = _RECORD.format(f"-{side.alias}"), identity_of([side])
            registered.append(
                cls(f"{name}_{side.alias}", f"{side.alias}.", record, side.schema, urls, of_side, version)
            )
        return registered


def register(dataset: Dataset, output: Output, job: ExportJob) -> tuple[Written, int]:
    """Make the table, and one for each side table, or bring them up to date; and how many rows the first has. New parts
    are added as a snapshot; where others were made anew since, the table is. UserError for a table of another maker."""
    check_sides(dataset, dataset.sides)
    for side in dataset.sides:
        _check_types(side)
    with _quiet():
        catalog = _catalog(dataset, output, job.catalog)
        written = [_register(catalog, files, output) for files in Registered.all_of(dataset, job.table)]
        rows = _rows_of(catalog.load_table(job.table))
    done, notes = sum(of.done_before for of in written), tuple(note for of in written for note in of.notes)
    return Written(len(written), done, notes), rows


def _check_types(side: SideTable) -> None:
    """InputError where a file has other columns than the first, or one that Iceberg has no type for."""

    def check(part: str) -> None:
        with side.open(part) as file:
            types = {field.name: field.type for field in pq.read_schema(file)}
        if types != {field.name: field.type for field in side.schema}:
            raise InputError(f"{side.option}: {part} has other columns than other files of it; make it again")

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="types") as pool:
        list(pool.map(check, side.files))


def _register(catalog: Any, files: Registered, output: Output) -> Written:
    without = [field.name for field in files.schema if _is_half(field.type)]
    names = ", ".join(f"{files.prefix}{name}" for name in without)
    notes = (f"without {names}: Iceberg has no 16-bit floats; read them from the parts",) if without else ()
    table = catalog.load_table(files.name) if catalog.table_exists(files.name) else None
    version = _version_of(table) if table is not None else None
    if table is not None and version is None:
        raise UserError(
            f"--table {files.name}: a table of that name exists that clipmill did not make: choose another name"
        )
    if table is not None and version == files.version:
        return Written(1, 1, notes)
    known = _known(output, files, version)
    if table is None or not known:
        table = _made(catalog, files, output)
    with table.transaction() as change:
        with change.update_snapshot({_VERSION: files.version}).fast_append() as snapshot:
            new = [_uri(url) for part, url in files.urls.items() if part not in known]
            for file in _data_files(table, new):
                snapshot.append_data_file(file)
        with change.update_schema() as schema:
            for name in without if not known else ():
                schema.delete_column(name)
    output.write(files.record, json.dumps({"version": files.version, "stamps": files.stamps}).encode())
    return Written(1, 0, notes)


def _known(output: Output, files: Registered, version: str | None) -> set[str]:
    """The parts that are in the table of this version; none where one of them was made anew since, or where that is not
    known."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        record = json.loads(output.read(files.record) or b"{}")
        if record["version"] == version and record["stamps"].items() <= files.stamps.items():
            return set(record["stamps"])
    return set()


def _made(catalog: Any, files: Registered, output: Output) -> Any:
    from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException

    if catalog.table_exists(files.name):
        catalog.drop_table(files.name)
    catalog.create_namespace_if_not_exists(files.name.split(".")[0])
    location, own = _uri(f"{output.url}/{files.name}"), {_OWN: "true"}
    try:
        table = catalog.create_table(files.name, files.schema, location=location, properties=own)
    except (ValueError, UnsupportedPyArrowTypeException) as error:  # of a side table: what clipmill writes has a type
        raise InputError(
            f"--join {files.prefix.removesuffix('.')}: Iceberg has no type for what it holds ({one_line(error)}); "
            "leave it out"
        ) from error
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
