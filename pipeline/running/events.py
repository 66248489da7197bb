"""What happens in a run, as records that observers see. `name` is the event's name in logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ..records import Shard, ShardStats


@dataclass(frozen=True)
class Starting:
    """Something that takes seconds before the first shard begins."""

    name: ClassVar[str] = "starting"
    what: str


@dataclass(frozen=True)
class Planned:
    """Once, before the workers start."""

    name: ClassVar[str] = "planned"
    shards: int
    done: int
    model: str
    precision: str
    todo: int  # shards of this run
    changed: int = 0  # shards whose file is another one now than the one that was embedded


@dataclass(frozen=True)
class Notice:
    """Something that the user should know of the inputs, before the workers start."""

    name: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True)
class WorkersStarted:
    """Once, when the first of them can work."""

    name: ClassVar[str] = "workers started"
    workers: int
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)  # by stage of that worker's start


@dataclass(frozen=True)
class WorkersAdded:
    """The cluster has grown."""

    name: ClassVar[str] = "workers added"
    workers: int


@dataclass(frozen=True)
class WorkersReleased:
    """Nothing is left to do for them: at the end of a run, or while other runs have in hand what is left."""

    name: ClassVar[str] = "workers released"
    workers: int


@dataclass(frozen=True)
class FewerWorkers:
    """The cluster has no room for all workers of the job; before they start."""

    name: ClassVar[str] = "fewer workers"
    asked: int  # workers of the job
    workers: int


@dataclass(frozen=True)
class WorkerLost:
    name: ClassVar[str] = "worker lost"
    reason: str


@dataclass(frozen=True)
class WorkerMoved:
    """Its machine is about to leave the cluster, so another one takes its place elsewhere."""

    name: ClassVar[str] = "worker moved"
    unfinished: int  # shards that it was working on, which others begin again


@dataclass(frozen=True)
class WorkerReplaced:
    """It failed, or went silent, where others do not."""

    name: ClassVar[str] = "worker replaced"
    reason: str


@dataclass(frozen=True)
class MachineLeftOut:
    """Its workers fail one after the other, and those of other machines do not: it gets no more of them."""

    name: ClassVar[str] = "machine left out"
    machine: str
    reason: str


@dataclass(frozen=True)
class MachineSlow:
    """Its shards take many times as long as those of other machines. It goes on all the same."""

    name: ClassVar[str] = "machine slow"
    machine: str
    times: float  # as long


@dataclass(frozen=True)
class ReadersChanged:
    """How many processes read and decode for the workers from now on."""

    name: ClassVar[str] = "readers changed"
    readers: int


@dataclass(frozen=True)
class Rows:
    """Progress since the last event of this kind; rows of a shard that is tried again are counted again."""

    name: ClassVar[str] = "progress"
    embedded: int
    failed: int
    in_flight: int = 0  # shards that workers are working on


@dataclass(frozen=True)
class ShardDone:
    name: ClassVar[str] = "shard done"
    shard: Shard
    stats: ShardStats
    attempt: int = 1
    machine: str = ""  # where


@dataclass(frozen=True)
class ShardFailed:
    name: ClassVar[str] = "shard failed"
    shard: Shard
    reason: str
    attempt: int = 1
    machine: str = ""  # where


@dataclass(frozen=True)
class DoneElsewhere:
    """Shards of this run that another run into the same output has done."""

    name: ClassVar[str] = "done by another run"
    shards: int


@dataclass(frozen=True)
class Waiting:
    """Once, when other runs have in hand all that is left."""

    name: ClassVar[str] = "waiting for another run"
    shards: int


@dataclass(frozen=True)
class ShardRetried:
    """An attempt failed and another one will follow."""

    name: ClassVar[str] = "shard tried again"
    shard: Shard
    reason: str
    attempt: int = 1
    machine: str = ""  # where


@dataclass(frozen=True)
class ShardLate:
    """Takes far longer than the others did, at the end of a run: a second worker tries it too."""

    name: ClassVar[str] = "shard late"
    shard: Shard


@dataclass(frozen=True)
class Stopping:
    """No more shards are given out; those that workers are working on may end."""

    name: ClassVar[str] = "stopping"
    left: int  # shards
    in_hand: int = 0
    why: str = ""  # which limit was reached; nothing where the run's caller wants it


@dataclass(frozen=True)
class SoFar:
    """For logs, where nothing else happens for a while: what was done since the beginning."""

    name: ClassVar[str] = "so far"
    shards: int
    embedded: int
    failed: int
    in_flight: int  # shards that workers are working on


Event = (
    Starting
    | Planned
    | Notice
    | WorkersStarted
    | WorkersAdded
    | WorkersReleased
    | FewerWorkers
    | WorkerLost
    | WorkerMoved
    | WorkerReplaced
    | MachineLeftOut
    | MachineSlow
    | ReadersChanged
    | Rows
    | ShardDone
    | ShardFailed
    | DoneElsewhere
    | Waiting
    | ShardRetried
    | ShardLate
    | Stopping
    | SoFar
)
