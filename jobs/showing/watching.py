"""`clipmill status --watch`: a run that goes on elsewhere, seen from its output."""

from __future__ import annotations

import json
import time
from collections import deque

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...pipeline.dataset.summary import Status, Watch
from .console import err

_LOOKS = 12  # over which speed is measured


def follow(watch: Watch, first: Status, every: float, as_json: bool) -> Status:
    """Look until it is complete; the last look. A bar on stderr, or with `as_json` a line of JSON a look on stdout."""
    bar = Progress(
        TextColumn("watching"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(
            "shards · {task.fields[rows]:,} samples · {task.fields[speed]:,.0f}/s · {task.fields[failed]:,} failed"
        ),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=as_json,
    )
    seen: deque[tuple[float, int]] = deque([(time.monotonic(), first.dataset.rows)], _LOOKS)
    with bar:
        task = bar.add_task("", total=first.planned, rows=0, speed=0.0, failed=0)
        now = first
        while True:
            done = now.dataset
            bar.update(
                task, total=now.planned, completed=done.shards, rows=done.rows, failed=done.failed, speed=_speed(seen)
            )
            if as_json:
                print(json.dumps({**now.as_json(), "samples_per_second": round(_speed(seen), 2)}), flush=True)
            if now.complete:
                return now
            time.sleep(every)
            now = watch.look() or now
            seen.append((time.monotonic(), now.dataset.rows))


def _speed(seen: deque[tuple[float, int]]) -> float:
    (since, before), (until, after) = seen[0], seen[-1]
    return (after - before) / (until - since) if until > since else 0.0
