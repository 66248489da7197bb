"""`clipmill status`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..showing.console import out as stdout
from .options import Json, StorageOptions, storage_options

if TYPE_CHECKING:
    from ...pipeline import Status


def status(
    out: Annotated[str, typer.Argument(help="The folder that `clipmill embed` writes to.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again until it is complete, wherever it is being made.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count the parts, of 20,000 shards and more, too. This may take minutes.")
    ] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Between two looks.", min=0.1)] = 5.0,
    storage_option: StorageOptions = None,
    json_: Json = False,
) -> None:
    """Show how far a dataset is: shards planned, committed, failed and left; samples; the bottleneck."""
    from ...pipeline.dataset.dataset import begun_at
    from ...pipeline.dataset.summary import Watch
    from ...pipeline.storage.reach import check_reachable
    from ..showing.watching import follow

    options = storage_options(storage_option)
    check_reachable(out, options)
    output, _ = begun_at(out, options)
    dataset = Watch(output, exact)
    state = dataset.look()
    assert state is not None  # begun_at would have refused it
    if watch:
        state = follow(dataset, state, every, json_)
    elif json_:
        print(json.dumps(state.as_json()))
    if not json_:
        _show(state)


def _show(status: Status) -> None:
    from ..showing.totals import busy_stages, show_at_work, show_cost, show_dataset

    stdout.print(f"{status.out}: {'complete' if status.complete else 'not complete'}")
    stdout.print(f"model       {status.model}")
    stdout.print(
        f"shards      {status.planned:,} planned, {status.dataset.shards:,} committed, "
        f"{len(status.failed_shards):,} failed, {status.left:,} left"
    )
    show_dataset(status.dataset, status.planned, status.failed_shards)
    if status.dataset.seconds["worker"]:
        speed = status.dataset.rows / status.dataset.seconds["worker"]
        stdout.print(f"throughput  {speed:,.1f} samples/s a worker ({busy_stages(status.dataset)})")
    show_cost(status.cost_per_million)
    show_at_work(status.at_work)
    if not status.exact:
        stdout.print("as the manifest tells, half a minute behind a run; --exact counts the parts")
    if status.left and not status.at_work:
        stdout.print("run the same `clipmill embed` again to go on")
