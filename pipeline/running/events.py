"""What a run tells of while it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from ..records import Shard, ShardStats


@dataclass(frozen=True)
class Planned:
    """Told once, before the workers start."""

    shards: int
    done: int
    model: str
    precision: str
    todo: int  # shards of this run
    changed: int = 0  # shards whose file is another one now than the one that was embedded


@dataclass(frozen=True)
class WorkersStarted:
    """Told once, when the first can work."""

    workers: int


@dataclass(frozen=True)
class WorkersAdded:
    """The cluster has grown."""

    workers: int


@dataclass(frozen=True)
class FewerWorkers:
    """The cluster has no room for all that were asked for. Told before they start."""

    asked: int
    workers: int


@dataclass(frozen=True)
class WorkerLost:
    reason: str


@dataclass(frozen=True)
class WorkerMoved:
    """Its machine is about to leave the cluster, so another one takes its place elsewhere."""

    unfinished: int  # shards that it had in hand, which others begin again


@dataclass(frozen=True)
class Rows:
    """Progress since the last event of this kind; rows of a shard that is tried again are counted again."""

    embedded: int
    failed: int
    in_flight: int = 0  # shards in workers' hands


@dataclass(frozen=True)
class ShardDone:
    shard: Shard
    stats: ShardStats
    attempt: int = 1


@dataclass(frozen=True)
class ShardFailed:
    shard: Shard
    reason: str
    attempt: int = 1


@dataclass(frozen=True)
class ShardRetried:
    """An attempt failed and another one will follow."""

    shard: Shard
    reason: str
    attempt: int = 1


@dataclass(frozen=True)
class ShardLate:
    """Takes far longer than the others did, at the end of a run: a second worker tries it too."""

    shard: Shard


@dataclass(frozen=True)
class Stopping:
    """No more shards are given out; those in hand may end."""

    left: int
    in_hand: int = 0


Event = (
    Planned
    | WorkersStarted
    | WorkersAdded
    | FewerWorkers
    | WorkerLost
    | WorkerMoved
    | Rows
    | ShardDone
    | ShardFailed
    | ShardRetried
    | ShardLate
    | Stopping
)
