"""What people see of `clipmill reshard`."""

from __future__ import annotations

from ..pipeline.resharding import ReshardSummary
from .show import out, shards


def show_reshard(summary: ReshardSummary) -> None:
    if not summary.samples:
        out.print("nothing to do: no sample is left to write", markup=False)
    elif summary.shards == summary.shards_done_before:
        out.print(f"nothing to do: all {summary.shards:,} shards are written already", markup=False)
    else:
        out.print(
            f"wrote {summary.shards - summary.shards_done_before:,} of {summary.shards:,} shards, "
            f"{summary.tar_bytes / 1e6:,.1f} MB, {summary.seconds:,.1f} s",
            markup=False,
        )
        out.print(
            f"read {summary.requests:,} ranges, {summary.request_bytes / 1e6:,.1f} MB, and "
            f"{summary.whole_shards:,} source shards whole",
            markup=False,
        )
    out.print(f"{summary.samples:,} samples in {shards(summary.shards)}", markup=False)
    out.print(f"in {summary.out}", markup=False)
