"""Options of `index`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from typing_extensions import Doc

from ..choices import IndexKind, Side
from ..errors import UserError
from .common import Address, Alias, DatasetUrl, Overwrite, StorageOptions
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class IndexJob(Readable):
    """Which embeddings to index, where to, and with which kind of index."""

    dataset: DatasetUrl
    out: Annotated[str, Doc("Folder or prefix for the index."), Flag(("--out", "-o"))]
    side: Annotated[Side, Doc("Of the pairs, what is to be found."), Flag(("--for",))] = "image"
    kind: Annotated[
        Literal["auto"] | IndexKind,
        Doc(
            "flat: exact search, nothing is built. ivf: cells, some of which are looked into. ivfpq: the same with "
            "short codes, for datasets that memory cannot hold. hnsw: a graph, built in memory. auto goes by the size."
        ),
    ] = "auto"
    nlist: Annotated[int | None, Doc("Cells of ivf and ivfpq."), Flag(default="by the size")] = None
    recall: Annotated[
        float,
        Doc("The share of the true ten nearest rows that a search should find: its effort is chosen by measuring."),
    ] = 0.97
    alias: Alias = None
    overwrite: Overwrite = False
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no index could have."""
        if self.nlist is not None and self.nlist < 1:
            raise UserError(f"--nlist {self.nlist}: must be at least 1")
        if not 0 < self.recall <= 1:
            raise UserError(f"--recall {self.recall:g}: must be a share, above 0 and at most 1")
