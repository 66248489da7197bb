"""Options of `dedup`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..choices import Side
from ..errors import UserError
from .common import Address, Alias, DatasetUrl, Joins, Overwrite, StorageOptions, Within, check_joins
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class DedupJob(Readable):
    """What counts as a duplicate, and which one stays."""

    dataset: DatasetUrl
    out: Annotated[str, Doc("Folder or prefix for the subset without duplicates."), Flag(("--out", "-o"))]
    threshold: Annotated[float, Doc("Cosine from which two embeddings are near duplicates.")] = 0.95
    exact: Annotated[bool, Doc("Find equal files (by sha256), or equal captions.")] = True
    near: Annotated[bool, Doc("Find near duplicates.")] = True
    keep_by: Annotated[
        str | None,
        Doc("Of each group the row that is highest in this column stays; of equals the first in the dataset."),
        Flag(metavar="COLUMN", default="the similarity of image and caption"),
    ] = None
    side: Annotated[Side, Doc("What is compared: the images, or the captions."), Flag(("--for",))] = "image"
    cells: Annotated[
        int | None,
        Doc(
            "k-means cells within which embeddings are compared: more are faster and miss more pairs at their borders."
        ),
        Flag(default="auto"),
    ] = None
    probes: Annotated[int, Doc("Nearest cells that each embedding is compared in: more miss fewer pairs.")] = 2
    against: Annotated[
        Sequence[str],
        Doc(
            "Another dataset of the same model, such as a test set: rows that equal one of its rows, or are near one, "
            "are dropped. Repeatable."
        ),
        Flag(metavar="DATASET"),
    ] = ()
    only_against: Annotated[bool, Doc("Drop only what --against names; find no duplicates within the dataset.")] = False
    joins: Joins = field(default_factory=dict)
    within: Within = None
    alias: Alias = None
    overwrite: Overwrite = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no run could use."""
        check_joins(self.joins)
        if not -1 <= self.threshold <= 1:
            raise UserError(f"--threshold {self.threshold:g}: must be a cosine, from -1 to 1")
        if not (self.exact or self.near):
            raise UserError("--no-exact and --no-near together leave nothing to find; drop one of them")
        if self.only_against and not self.against:
            raise UserError("--only-against leaves nothing to find; name a dataset with --against, too")
        for name, value in (("--cells", self.cells), ("--probes", self.probes)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
