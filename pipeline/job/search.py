"""Options of `search`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..choices import Side
from ..errors import UserError
from .common import Alias, DatasetUrl, Joins, StorageOptions, WeightsOf, Within, check_joins
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class SearchJob(Readable):
    """What to search for, in which dataset, and how many rows to return."""

    dataset: DatasetUrl
    text: Annotated[str | None, Doc("Words to look for."), Flag(argument=True, metavar="[TEXT]")] = None
    image: Annotated[str | None, Doc("In place of words, an image: a file."), Flag(metavar="FILE")] = None
    key: Annotated[
        str | None, Doc("In place of words, others like this pair: like its image, or where it has none its caption.")
    ] = None
    place: Annotated[
        int | None,
        Doc("The same for the row at this position in the dataset, from 0, where several pairs have one key."),
        Flag(metavar="N"),
    ] = None
    k: Annotated[int, Doc("How many to find."), Flag(("--k", "-k"))] = 10
    threshold: Annotated[
        float | None, Doc("Find only those whose score is at least this."), Flag(metavar="SCORE", default="none")
    ] = None
    side: Annotated[Side, Doc("Of the pairs, what is compared with the query."), Flag(("--for",))] = "image"
    where: Annotated[
        str | None,
        Doc("SQL condition on the dataset's columns: only among rows that meet it."),
        Flag(metavar="SQL", default="all rows"),
    ] = None
    joins: Joins = field(default_factory=dict)
    within: Within = None
    index: Annotated[
        str | None,
        Doc("An index that `clipmill index` wrote: faster, and may miss some. Exact among few rows."),
        Flag(metavar="DIR", default="none: exact"),
    ] = None
    alias: Alias = None
    model: WeightsOf = None
    storage_options: StorageOptions = field(default_factory=dict)

    @property
    def query(self) -> str:
        """What is searched for, as the results name it."""
        if self.place is not None:
            return f"row {self.place}"
        return self.text or self.image or self.key or ""

    def check(self) -> None:
        """UserError for values that no search could use."""
        check_joins(self.joins)
        queries = {"TEXT": self.text, "--image": self.image, "--key": self.key, "--place": self.place}
        present = [name for name, value in queries.items() if value is not None]
        if len(present) != 1:
            names = " and ".join(present) or "nothing"
            raise UserError(f"{names} to search for: give exactly one of TEXT, --image FILE, --key KEY and --place N")
        if self.text is not None and not self.text.strip():
            raise UserError("TEXT is empty")
        if self.place is not None and self.place < 0:
            raise UserError(f"--place {self.place}: must not be negative")
        if self.k < 1:
            raise UserError(f"-k {self.k}: must be at least 1")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UserError(f"--threshold {self.threshold:g}: must be a cosine, from -1 to 1")
        if self.where is not None and not self.where.strip():
            raise UserError("--where is empty")
