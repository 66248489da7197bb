"""What the steps after embedding tell of while they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """How far a piece of work is, again and again as it goes on."""

    name: str  # what is being done: `labelling`
    unit: str  # what is counted: `parts`
    done: int
    total: int


OnStage = Callable[[Stage], None]


def counted(
    items: Iterable[T],
    name: str,
    unit: str,
    total: int,
    on_stage: OnStage,
    weigh: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """The same items; an item counts once whoever takes it is done with it. weigh: units an item."""
    done = 0
    on_stage(Stage(name, unit, done, total))
    for item in items:
        yield item
        done += weigh(item)
        on_stage(Stage(name, unit, done, total))
