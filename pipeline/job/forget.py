"""Options of `forget`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..errors import UserError
from .common import Address, DatasetUrl, StorageOptions
from .flags import Flag
from .readable import Readable

_FILE = "a line each; or a CSV or Parquet file with a column {}."


@dataclass(frozen=True, repr=False)
class ForgetJob(Readable):
    """Which rows are to be forgotten, and whether they are deleted, too."""

    dataset: DatasetUrl
    uids: Annotated[str | None, Doc(f"Forget rows with these uids: {_FILE.format('uid')}"), Flag(metavar="FILE")] = None
    urls: Annotated[str | None, Doc(f"Forget rows with these URLs: {_FILE.format('url')}"), Flag(metavar="FILE")] = None
    sha256: Annotated[
        str | None, Doc(f"Forget rows whose images have these sha256: {_FILE.format('sha256')}"), Flag(metavar="FILE")
    ] = None
    keys: Annotated[str | None, Doc(f"Forget rows with these keys: {_FILE.format('key')}"), Flag(metavar="FILE")] = None
    purge: Annotated[bool, Doc("Delete what parts, caches and --also still hold of all rows forgotten so far.")] = False
    also: Annotated[
        Sequence[str],
        Doc("With --purge: a subset, labels, scores, columns, an index, an export or new shards of it. Repeatable."),
        Flag(metavar="FOLDER"),
    ] = ()
    count: Annotated[bool, Doc("Only say how many rows would be forgotten.")] = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    @property
    def lists(self) -> dict[str, str]:
        """The files, by the column that they name rows by."""
        named = {"uid": self.uids, "url": self.urls, "sha256": self.sha256, "key": self.keys}
        return {kind: path for kind, path in named.items() if path is not None}

    def check(self) -> None:
        """UserError for values that no run could use."""
        if not (self.lists or self.purge):
            raise UserError("nothing to forget: give --uids, --urls, --sha256 or --keys, or --purge for earlier ones")
        if self.also and not self.purge:
            raise UserError("--also goes with --purge: without it nothing is deleted")
        if self.count and self.purge:
            raise UserError("--count deletes nothing: leave out --purge")
        if self.count and not self.lists:
            raise UserError("--count counts rows of a list: give --uids, --urls, --sha256 or --keys")
