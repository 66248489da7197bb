"""Options of `report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from .common import Address, Alias, DatasetUrl, Joins, StorageOptions, Within, check_named
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class ReportJob(Readable):
    """A dataset on one page."""

    dataset: DatasetUrl
    out: Annotated[str, Doc("The page: an HTML file, complete in itself."), Flag(("--out", "-o"), metavar="FILE")]
    labels: Annotated[
        str | None, Doc("Its labels, which `clipmill label` wrote."), Flag(metavar="LABELS", default="none")
    ] = None
    against: Annotated[
        str | None,
        Doc("Another dataset to compare with: other pairs, or the same ones by another model."),
        Flag(metavar="DATASET", default="none"),
    ] = None
    duplicates: Annotated[
        str | None,
        Doc("Show these groups of duplicates, which `clipmill dedup` found."),
        Flag(metavar="SUBSET", default="those of --within, else among a sample"),
    ] = None
    columns: Annotated[
        Sequence[str],
        Doc("A column to tell of, the dataset's own or ALIAS.COLUMN of a side table: numbers or text. Repeatable."),
        Flag(("--column",), metavar="NAME"),
    ] = ()
    joins: Joins = field(default_factory=dict)
    within: Within = None
    alias: Alias = None
    overwrite: Annotated[bool, Doc("Replace a file that is no report, too.")] = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no run could use."""
        check_named(self.joins, self.columns, self.labels)
