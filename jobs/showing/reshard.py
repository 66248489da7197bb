"""What people see of `clipmill reshard`."""

from __future__ import annotations

from ...pipeline.resharding.reshard import ReshardSummary
from .amounts import counted, every, size
from .show import out


def show_reshard(summary: ReshardSummary) -> None:
    if not summary.samples:
        out.print("nothing to do: no sample is left to write", markup=False)
    elif summary.shards == summary.shards_done_before:
        out.print(f"nothing to do: {every(summary.shards, 'shard')} written already", markup=False)
    else:
        out.print(
            f"wrote {summary.shards - summary.shards_done_before:,} of {counted(summary.shards, 'shard')}, "
            f"{size(summary.tar_bytes)}, {summary.seconds:,.1f} s",
            markup=False,
        )
        out.print(
            f"read {counted(summary.requests, 'range')}, {size(summary.request_bytes)}, and "
            f"{counted(summary.whole_shards, 'source shard')} whole",
            markup=False,
        )
    out.print(f"{counted(summary.samples, 'sample')} in {counted(summary.shards, 'shard')}", markup=False)
    out.print(f"in {summary.out}", markup=False)
