"""Options of `serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..errors import UserError
from .common import Alias, DatasetUrl, Joins, StorageOptions, WeightsOf, check_joins
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class ServeJob(Readable):
    """The dataset that the page shows, and the address it is served at."""

    dataset: DatasetUrl
    labels: Annotated[
        str | None,
        Doc("Labels of the dataset, which `clipmill label` wrote."),
        Flag(metavar="LABELS", default="none"),
    ] = None
    joins: Joins = field(default_factory=dict)
    index: Annotated[
        str | None,
        Doc("An index that `clipmill index` wrote, for searches without a filter."),
        Flag(metavar="DIR", default="none: exact"),
    ] = None
    host: Annotated[
        str,
        Doc("The address to listen at. At any but this machine's own, everybody who reaches it sees the data."),
    ] = "127.0.0.1"
    port: Annotated[int, Doc("The port; 0 takes any that is free.")] = 8000
    alias: Alias = None
    model: WeightsOf = None
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no server could use."""
        check_joins(self.joins, labels=self.labels)
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: must be from 0 to 65535")
