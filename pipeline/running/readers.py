"""Who reads and decodes for the workers, as the driver sees it: their own threads, or processes that are lent to them
(`reader_pool.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import InfrastructureError
from ..records import Shard, ShardStats
from .events import Event
from .worker_handle import IN_FLIGHT, WorkerHandle


@dataclass(frozen=True)
class LentReader:
    """A process that reads for a worker now."""

    number: int
    machine: str
    actor: Any


class ReadingFailed(InfrastructureError):
    """A shard could not be read by that process, which perhaps is to blame. `lost`: the process has ended."""

    def __init__(self, message: str, reader: int, machine: str, lost: bool = False) -> None:
        super().__init__(message)
        self.reader, self.machine, self.lost = reader, machine, lost

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadingFailed, (str(self), self.reader, self.machine, self.lost)


class Readers(Protocol):
    """Told of what becomes of shards, and looked after between them."""

    def in_flight(self, worker: WorkerHandle) -> int:
        """Shards that a worker may have at once."""

    def done(self, worker: WorkerHandle, stats: ShardStats) -> None:
        """A worker has done a shard."""

    def failed(self, error: ReadingFailed, shard: Shard) -> Iterator[Event]:
        """A process could not read a shard, or is lost."""

    def look(self, now: float, workers: Sequence[WorkerHandle], left: int) -> Iterator[Event]:
        """See to it that all workers are read for. left: shards of the run that are not done."""

    def stop(self) -> None:
        """End all processes."""


class ReadByThemselves:
    """Workers whose own threads read."""

    def in_flight(self, worker: WorkerHandle) -> int:
        return IN_FLIGHT

    def done(self, worker: WorkerHandle, stats: ShardStats) -> None: ...

    def failed(self, error: ReadingFailed, shard: Shard) -> Iterator[Event]:
        return iter(())

    def look(self, now: float, workers: Sequence[WorkerHandle], left: int) -> Iterator[Event]:
        return iter(())

    def stop(self) -> None: ...
