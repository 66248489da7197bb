"""The progress of the steps after embedding."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...pipeline.running.stages import Stage
from .console import err
from .progress import Bar


class StageBar(Bar):
    """Turns the stages of a step into one bar, which begins anew with each."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]} ·"),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self._task = self._bar.add_task("", unit="", total=None)
        self._name = ""

    def __call__(self, stage: Stage) -> None:
        if stage.name != self._name:
            self._name = stage.name
            self._bar.reset(self._task, description=stage.name, unit=stage.unit, total=stage.total)
        if err.is_terminal:  # elsewhere it would leave an empty line
            self._bar.start()
        self._bar.update(self._task, completed=stage.done)
