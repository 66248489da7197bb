"""A bar's line on a narrow terminal: fields are left out, never the totals and the time left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

_BAR, _WIDE = 10, 40  # characters of the bar itself
_ROOM = 110  # of a terminal that has room for a wide one


@dataclass(frozen=True)
class Fields:
    """What a bar tells. more: in the order of importance; those that do not fit are left out, from the end."""

    totals: str
    more: Sequence[str]
    left: str


def fitted(fields: Fields, width: int) -> str:
    kept: list[str] = []
    for field in fields.more:
        if len(" · ".join([fields.totals, *kept, field, fields.left])) > width:
            break
        kept.append(field)
    return " · ".join([fields.totals, *kept, fields.left])


def fitting_bar(console: Console, fields_of: Callable[[Task], Fields], *, transient: bool = False) -> Progress:
    bar = _WIDE if console.width >= _ROOM else _BAR

    class Column(ProgressColumn):
        max_refresh = 0.5  # seconds

        def render(self, task: Task) -> Text:
            return Text(fitted(fields_of(task), console.width - len(task.description) - bar - 2), no_wrap=True)

    return Progress(
        TextColumn("{task.description}"), BarColumn(bar), Column(), console=console, transient=transient, expand=False
    )


def elapsed(task: Task) -> str:
    return _clock(task.finished_time if task.finished else task.elapsed)


def time_left(task: Task) -> str:
    return f"left {_clock(task.time_remaining)}"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-:--:--"
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
