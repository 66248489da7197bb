"""Options of `columns`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..errors import UserError
from .common import Address, DatasetUrl, Overwrite, StorageOptions
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class ColumnsJob(Readable):
    """Which fields of the samples are copied, and where they go."""

    dataset: DatasetUrl
    out: Annotated[str, Doc("Folder or prefix for the columns: one file for each part."), Flag(("--out", "-o"))]
    columns: Annotated[
        Sequence[str],
        Doc(
            "A field of the samples' json, or a column of Parquet shards: NAME, or NAME:TYPE with string, int64, "
            "float64 or bool. Repeatable."
        ),
        Flag(("--column",), metavar="NAME[:TYPE]"),
    ]
    overwrite: Overwrite = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no run could use."""
        if not self.columns:
            raise UserError("--column is missing: name at least one field")
