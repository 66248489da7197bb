"""What people see of a dataset: how a run ended, what is in the output, what failed and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ...pipeline.dataset.lock import Patience
from ...pipeline.dataset.runs import AtWork
from ...pipeline.dataset.summary import Summary
from ...pipeline.dataset.totals import Totals
from .amounts import counted, duration, every, size
from .console import out
from .half_pairs import warnings


def show_summary(summary: Summary) -> None:
    run, dataset = summary.run, summary.dataset
    if not run.shards and not summary.failed_shards:
        missing = summary.planned - summary.dataset.shards
        if missing:
            out.print(f"nothing to do for these inputs; {missing:,} of {summary.planned:,} planned shards are left")
        else:
            out.print(f"nothing to do: {every(summary.planned, 'shard')} embedded already")
    else:
        speed = f", {summary.samples_per_second:,.1f}/s once started" if summary.samples_per_second else ""
        out.print(
            f"embedded {run.embedded:,} of {run.rows:,} samples in {counted(run.shards, 'shard')}, "
            f"{summary.seconds:,.1f} s{speed} ({busy_stages(run)})"
        )
        show_cost(summary.cost_per_million, summary.cost)
    if summary.mended is not None and run.shards:
        out.print(f"mended {counted(summary.mended, 'row')} that failed before; {run.failed:,} failed again")
    if summary.elsewhere:
        out.print(f"other runs did {counted(summary.elsewhere, 'shard')} of these meanwhile")
    show_dataset(dataset, summary.planned, summary.failed_shards)
    out.print(f"in {summary.out}")


def show_dataset(totals: Totals, planned: int, failed_shards: dict[str, str]) -> None:
    out.print(
        f"dataset     {totals.rows:,} rows = {totals.embedded:,} embedded + {totals.failed:,} failed, "
        f"{totals.shards:,} of {counted(planned, 'shard')}, {size(totals.part_bytes)}"
    )
    show_failures(totals.failures)
    for warning in warnings(totals):
        out.print(f"WARNING     {warning}", style="bold yellow")
    for url, reason in list(failed_shards.items())[:10]:
        out.print(f"  shard failed: {named(url, reason)}")


def named(url: str, reason: str) -> str:
    """The reason with its URL before it, once: many reasons begin with it."""
    return reason if reason.startswith(url) else f"{url}: {reason}"


def show_failures(failures: Counter[str]) -> None:
    for reason, count in failures.most_common(20):
        out.print(f"  {count:>7,}  {reason}")


def show_cost(per_million: float | None, total: float | None = None) -> None:
    """In the currency of --price-per-hour; nothing where no price was given."""
    if per_million is not None:
        run = f", {total:,.2f} for this run" if total is not None else ""
        out.print(f"cost        {per_million:,.2f} a million pairs{run}")


def show_at_work(runs: Iterable[AtWork]) -> None:
    for run in runs:
        silent = ""
        if run.silent is not None:
            silent = f", last heard of {duration(run.silent)} ago"
            silent += ": it has died, or cannot reach the output" if run.silent > Patience.expires else ""
        out.print(f"at work     process {run.pid} on {run.host}, for {duration(run.seconds)}{silent}")


def busy_stages(totals: Totals) -> str:
    """Where the time went, as shares of the workers' time."""
    if not totals.bottleneck:
        return "no work"
    words = [f"busy: {_shares(totals.utilisation)}", f"bottleneck: {totals.bottleneck}"]
    if waited := totals.waited_for:
        who = "GPU" if totals.on_gpus else "encoder"
        words.append(f"the {who} waited {sum(waited.values()):.0%} of the time, for {_shares(waited)}")
    if totals.mfu and totals.flop_utilisation:
        words.append(f"MFU {totals.mfu:.0%}, {totals.flop_utilisation:.0%} while encoding")
    if totals.cores_a_worker:
        words.append(f"{totals.cores_a_worker:.1f} cores busy a worker")
    return "; ".join(words)


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items() if share)
