"""Options of `export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from typing_extensions import Doc

from ..errors import UserError
from .common import Address, Alias, DatasetUrl, Joins, StorageOptions, Within, check_joins, check_named
from .flags import Flag
from .readable import Readable

Layout = Literal["datacomp", "clip-retrieval", "iceberg", "lance"]


@dataclass(frozen=True, repr=False)
class ExportJob(Readable):
    """A dataset in a layout that other tools read."""

    dataset: DatasetUrl
    out: Annotated[str, Doc("Folder or prefix for what is written."), Flag(("--out", "-o"))]
    to: Annotated[
        Layout,
        Doc(
            "datacomp: metadata Parquet and npz a part; clip-retrieval: numbered npy and Parquet files; iceberg: the "
            "parts registered as a table, not copied; lance: one Lance table."
        ),
    ]
    columns: Annotated[
        Sequence[str],
        Doc("A column more than the layout has: the dataset's own, or ALIAS.COLUMN of a side table. Repeatable."),
        Flag(("--column",), metavar="NAME"),
    ] = ()
    joins: Joins = field(default_factory=dict)
    within: Within = None
    alias: Alias = None
    rows_per_file: Annotated[int, Doc("With clip-retrieval: rows of a numbered file, at most.")] = 1_000_000
    catalog: Annotated[
        str | None,
        Doc("With iceberg: a catalogue of your pyiceberg configuration."),
        Flag(default="a SQLite file in OUT"),
    ] = None
    table: Annotated[str, Doc("With iceberg: the table's name.")] = "clipmill.pairs"
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that do not go together."""
        if self.rows_per_file < 1:
            raise UserError(f"--rows-per-file {self.rows_per_file}: must be at least 1")
        if self.to != "iceberg":
            check_named(self.joins, self.columns)
        elif self.columns:
            raise UserError(
                "--column: iceberg registers whole files: leave it out; --join makes a table of each folder"
            )
        else:
            check_joins(self.joins)
        if self.to == "iceberg" and self.within is not None:
            raise UserError(
                "--within: iceberg registers whole parts: reshard the subset first, or filter in your queries"
            )
        if self.to != "iceberg" and self.catalog is not None:
            raise UserError(f"--catalog is for --to iceberg, not for --to {self.to}")
        if self.to != "clip-retrieval" and self.alias is not None:
            raise UserError(f"--alias is for --to clip-retrieval: --to {self.to} exports the columns of all models")
        if self.table.count(".") != 1 or not all(self.table.split(".")):
            raise UserError(f"--table {self.table}: must be NAMESPACE.NAME")
