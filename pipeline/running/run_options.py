"""How a run goes, besides its shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .backlog import Limits
from .readers import ReadByThemselves, Readers
from .until import Until, WhenAsked


@dataclass(frozen=True)
class RunOptions:
    """What the driver asks, and whom it tells."""

    limits: Limits = field(default_factory=Limits)
    until: Until = field(default_factory=WhenAsked)  # asked often
    workers: Callable[[], int] = lambda: 0  # how many there can be, as machines join and leave; called now and then
    patience: float = 60.0  # seconds with neither a worker nor a machine for one, when all have left
    readers: Callable[[], Readers] = ReadByThemselves  # who reads for the workers
    need: Callable[[int], None] = lambda _: None  # told often how many workers have something to do
