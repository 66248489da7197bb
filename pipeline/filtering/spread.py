"""Work on the rows of some parts, over a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..running.scatter import scatter
from ..running.stages import OnStage, counted


class HasParts(Protocol):
    @property
    def parts(self) -> Sequence[str]: ...


T = TypeVar("T", bound=HasParts)
R = TypeVar("R")

WAITING = 0.1  # cores that work takes which mostly waits for the storage


@dataclass(frozen=True)
class Spread:
    address: str
    on_stage: OnStage

    def __call__(
        self, stage: str, work: Callable[[T], R], items: Sequence[T], cpus: float | Callable[[T], float] = 1.0
    ) -> Iterator[tuple[T, R]]:
        """As `scatter`. items: `Run`s and the like. The stage tells how many of their parts are done."""
        if items:
            total, spread = sum(len(item.parts) for item in items), scatter(work, items, self.address, cpus)
            yield from counted(spread, stage, "parts", total, self.on_stage, weigh=lambda done: len(done[0].parts))
