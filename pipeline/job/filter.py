"""Options of `filter`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from typing_extensions import Doc

from ..errors import UserError
from .common import Address, Alias, DatasetUrl, Joins, Overwrite, StorageOptions, Within, check_joins
from .flags import Flag
from .readable import Readable

Recipe = Literal[
    "no_filter",
    "basic",
    "clip_score",
    "laion2b",
    "text_based",
    "image_based",
    "image_based_intersect_clip_score",
]


@dataclass(frozen=True, repr=False)
class FilterJob(Readable):
    """Which rows of a dataset stay: those for which every condition holds."""

    dataset: DatasetUrl
    out: Annotated[
        str, Doc("Folder or prefix for the subset."), Flag(("--out", "-o"), default="needed without --count")
    ] = ""
    count: Annotated[bool, Doc("Only count what would be kept and dropped; write nothing.")] = False
    where: Annotated[
        Sequence[str],
        Doc(
            "A condition in SQL (DuckDB) over all columns, such as \"similarity > 0.3 AND caption ILIKE '%dog%'\". "
            "Repeatable: each is counted by itself."
        ),
        Flag(metavar="SQL"),
    ] = ()
    recipe: Annotated[Recipe | None, Doc("Conditions as DataComp's baselines have them."), Flag(default="none")] = None
    top_fraction: Annotated[
        float | None,
        Doc("Keep the best share of all rows with a score, such as 0.3; ties at the edge stay."),
        Flag(metavar="SHARE", default="all"),
    ] = None
    threshold: Annotated[
        float | None, Doc("Keep rows whose score is at least this."), Flag(metavar="SCORE", default="none")
    ] = None
    by: Annotated[
        str | None, Doc("The column that is the score."), Flag(metavar="COLUMN", default="the model's similarity")
    ] = None
    columns: Annotated[
        Sequence[str],
        Doc("A column to keep in the subset, besides key, shard, row and the image's byte range. Repeatable."),
        Flag(("--column",), metavar="NAME"),
    ] = ()
    labels: Annotated[
        str | None,
        Doc("Labels of the dataset, or of a subset, which `clipmill label` wrote: conditions may name their columns."),
        Flag(metavar="LABELS", default="none"),
    ] = None
    uids: Annotated[
        str | None,
        Doc("Also write the kept rows' uids as DataComp's resharder and trainer read them (NumPy u8,u8; sorted)."),
        Flag(metavar="FILE.npy", default="not written"),
    ] = None
    language_detector: Annotated[
        str,
        Doc("For recipes: rough (a guess that needs nothing), lingua, fasttext=lid.176.bin, or MODULE:FUNCTION."),
    ] = "rough"
    vocabulary: Annotated[
        str | None, Doc("For text_based: words or phrases, one a line."), Flag(metavar="FILE", default="none")
    ] = None
    reference: Annotated[
        str | None,
        Doc("For image_based: a dataset of the same model whose images say which ones are wanted."),
        Flag(metavar="DATASET", default="none"),
    ] = None
    cells: Annotated[
        int | None,
        Doc("For image_based: how many cells the embeddings are divided into."),
        Flag(default="one for 40 rows, 4,096 at most"),
    ] = None
    failed: Annotated[bool, Doc("Keep rows that failed to embed, if the conditions hold for them.")] = False
    joins: Joins = field(default_factory=dict)
    within: Within = None
    alias: Alias = None
    overwrite: Overwrite = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no run could use."""
        check_joins(self.joins, labels=self.labels)
        if not self.out and not self.count:
            raise UserError("--out is missing: name a folder for the subset, or add --count to write nothing")
        if self.count and (self.uids or self.overwrite):
            raise UserError("--count writes nothing: drop --uids and --overwrite, or --count")
        if self.top_fraction is not None and not 0 < self.top_fraction <= 1:
            raise UserError(f"--top-fraction {self.top_fraction:g}: must be a share, above 0 and up to 1")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UserError(f"--threshold {self.threshold:g}: must be a finite number")
        if self.cells is not None and self.cells < 1:
            raise UserError(f"--cells {self.cells}: must be at least 1")
