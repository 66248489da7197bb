"""The progress of the steps after embedding."""

from __future__ import annotations

import sys
import time

from rich.progress import Task

from ...pipeline.running.stages import Stage
from .console import err
from .fitting import Fields, elapsed, fitting_bar, time_left
from .log import SILENCE, log_kind
from .progress import Bar


class StageBar(Bar):
    """Turns the stages of a step into one bar, which begins anew with each; where logs are wanted, into lines."""

    def __init__(self) -> None:
        self._bar = fitting_bar(err, _fields, transient=True)
        self._task = self._bar.add_task("", unit="", total=None)
        self._name, self._told = "", 0.0

    def __call__(self, stage: Stage) -> None:
        is_new = stage.name != self._name
        if is_new:
            self._name = stage.name
            self._bar.reset(self._task, description=stage.name, unit=stage.unit, total=stage.total)
        if log_kind() != "bar":
            if is_new or time.monotonic() - self._told >= SILENCE:
                self._told = time.monotonic()
                print(f"{stage.name}: {stage.done:,} of {stage.total:,} {stage.unit}", file=sys.stderr, flush=True)
            return
        if err.is_terminal:  # elsewhere it would leave an empty line
            self._bar.start()
        self._bar.update(self._task, completed=stage.done)


def _fields(task: Task) -> Fields:
    totals = f"{int(task.completed):,}/{int(task.total or 0):,} {task.fields['unit']}"
    return Fields(totals, [elapsed(task)], time_left(task))
