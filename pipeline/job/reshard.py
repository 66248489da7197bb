"""The reshard job: which samples go into new shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import Doc

from ..errors import UserError
from .common import Address, Joins, StorageOptions, check_named
from .flags import Flag
from .readable import Readable


@dataclass(frozen=True, repr=False)
class ReshardJob(Readable):
    """Which samples go into new shards, and in which order."""

    source: Annotated[
        str,
        Doc("A subset that `clipmill filter` or `clipmill dedup` wrote; or a dataset, for all of its embedded rows."),
        Flag(argument=True, metavar="SUBSET|DATASET"),
    ]
    out: Annotated[str, Doc("Folder or prefix for the new shards."), Flag(("--out", "-o"))]
    samples_per_shard: Annotated[int, Doc("Samples a shard; the last may have fewer.")] = 10_000
    shuffle: Annotated[
        int | None,
        Doc(
            "Spread the samples at random: source shards in an order drawn by this seed, and their samples over every "
            "32 new shards."
        ),
        Flag(metavar="SEED", default="the dataset's order"),
    ] = None
    columns: Annotated[
        Sequence[str],
        Doc("A column of a side table, ALIAS.COLUMN, for the tables beside the new shards. Repeatable."),
        Flag(("--column",), metavar="NAME"),
    ] = ()
    joins: Joins = field(default_factory=dict)
    address: Address = "auto"
    storage_options: StorageOptions = field(default_factory=dict)

    def check(self) -> None:
        """UserError for values that no run could use."""
        check_named(self.joins, self.columns)
        if self.samples_per_shard < 1:
            raise UserError(f"--samples-per-shard {self.samples_per_shard}: must be at least 1")
        if self.shuffle is not None and self.shuffle < 0:
            raise UserError(f"--shuffle {self.shuffle}: must not be negative")
