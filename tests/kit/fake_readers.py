"""The pool of processes that read, without a cluster: its workers, and Ray's actors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clipmill.pipeline.running.readers import LentReader
from ray.exceptions import RayActorError


@dataclass(eq=False)
class FakeWorker:
    node: str
    is_ready: bool = True
    lent: list[LentReader] = field(default_factory=list)

    def lend(self, readers: Sequence[LentReader]) -> None:
        self.lent = list(readers)

    @property
    def machines(self) -> Counter[str]:
        return Counter(reader.machine for reader in self.lent)


@dataclass
class FakeRay:
    """Processes start at once; on the broken machines they do not, and on the full ones they wait for room."""

    broken: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    alive: list[FakeActor] = field(default_factory=list)

    def put(self, value: Any) -> Any:
        return value

    def remote(self, _: type) -> FakeRay:
        return self

    def options(self, num_cpus: int, label_selector: dict[str, str], **_: int) -> FakeMaker:
        return FakeMaker(self, num_cpus, label_selector["ray.io/node-id"])

    def wait(self, references: list[FakeActor], num_returns: int, timeout: float) -> tuple[list[FakeActor], list[Any]]:
        assert num_returns == len(references) and timeout == 0
        return [actor for actor in references if actor.machine not in self.full], []

    def get(self, actor: FakeActor) -> None:
        if actor.machine in self.broken:
            raise RayActorError(error_msg="no clipmill there")

    def kill(self, actor: FakeActor) -> None:
        self.alive.remove(actor)

    @property
    def machines(self) -> Counter[str]:
        return Counter(actor.machine for actor in self.alive)


@dataclass
class FakeMaker:
    ray: FakeRay
    cpus: int
    machine: str

    def remote(self, *_: Any) -> FakeActor:
        self.ray.alive.append(FakeActor(self.cpus, self.machine))
        return self.ray.alive[-1]


@dataclass(eq=False)
class FakeActor:
    cpus: int
    machine: str
    shares: list[int] = field(default_factory=list)

    @property
    def share(self) -> FakeShare:
        return FakeShare(self)

    @property
    def started(self) -> FakeStart:
        return FakeStart(self)


@dataclass
class FakeShare:
    actor: FakeActor

    def remote(self, processes: int) -> None:
        self.actor.shares.append(processes)


@dataclass
class FakeStart:
    actor: FakeActor

    def remote(self) -> FakeActor:
        return self.actor
