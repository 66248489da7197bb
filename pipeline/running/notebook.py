"""Progress where nobody asked for it but somebody looks on: in notebooks. Elsewhere the library prints nothing."""

from __future__ import annotations

import sys
from typing import Any

from .events import DoneElsewhere, Event, Planned, Rows, ShardDone, ShardFailed
from .rows_seen import RowsSeen
from .stages import Stage


def is_notebook() -> bool:
    """Whether this is a kernel that shows what cells give."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


class EmbedBar:
    """Turns the events of `embed` into a bar: shards, rows, failures."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._seen = RowsSeen()

    def __call__(self, event: Event) -> None:
        if not is_notebook():
            return
        if isinstance(event, Planned) and event.todo:
            self._bar, self._seen = _bar(event.todo, "embedding", "shard"), RowsSeen()
        if self._bar is None:
            return
        self._seen.take(event)
        if isinstance(event, Rows):
            self._count()
        elif isinstance(event, (ShardDone, ShardFailed)):
            self._advance(1)
        elif isinstance(event, DoneElsewhere):
            self._advance(event.shards)

    def _advance(self, shards: int) -> None:
        self._bar.update(shards)
        if self._bar.n >= self._bar.total:
            self._seen.settle()
            self._count()
            self._bar.close()

    def _count(self) -> None:
        self._bar.set_postfix_str(f"{self._seen.rows:,} rows, {self._seen.failed:,} failed")


class StageBars:
    """Turns the stages of a step into bars, one below the other."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._name = ""

    def __call__(self, stage: Stage) -> None:
        if not is_notebook():
            return
        if stage.name != self._name or stage.done < self._bar.n:  # another one, or the same for another job
            self._name, self._bar = stage.name, _bar(stage.total, stage.name, stage.unit)
        self._bar.update(stage.done - self._bar.n)
        if stage.done >= stage.total:
            self._bar.close()


def _bar(total: int, what: str, unit: str) -> Any:
    from tqdm.auto import tqdm  # widgets where these are installed, else text

    return tqdm(total=total, desc=what, unit=f" {unit}")


events = EmbedBar()  # what functions tell when they are not given anybody to tell
stages = StageBars()
