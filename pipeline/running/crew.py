"""The workers of a run: made, started, replaced, kept away from machines that do not work."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InfrastructureError
from ..records import Shard
from .backlog import Backlog
from .events import Event, MachineLeftOut, WorkerReplaced
from .judge import Judge
from .placement import Placement
from .worker_handle import StartFailed, WorkerDied, WorkerHandle

_LEAST_SILENT = 600.0  # seconds without a row, in which a part may be written and stored with all its retries


class Crew:
    """Handles, and the judge of them. The driver gives them shards."""

    def __init__(self, factory: Any, placement: Placement, backlog: Backlog, workers: int) -> None:
        """factory: a reference to the WorkerFactory. workers: at first."""
        self._factory, self._placement, self._backlog = factory, placement, backlog
        self.judge = Judge()
        # since the last worker started
        self._failed_starts: deque[StartFailed] = deque(maxlen=3 * placement.workers + 4)
        self._started = False
        self._loads: Counter[int] = Counter()  # shards in hand -> workers that have so many
        self._heard: dict[WorkerHandle, float] = {}  # when a worker last got a shard, ended one, or told of rows
        self.handles = [self.new() for _ in range(workers)]

    def new(self) -> WorkerHandle:
        return WorkerHandle(self._factory, self._placement, sorted(self.judge.left_out))

    def grow(self, by: int) -> None:
        self.handles += [self.new() for _ in range(by)]

    def release(self, handles: Sequence[WorkerHandle]) -> None:
        """Workers without shards; their machines are for others now."""
        for handle in handles:
            self._heard.pop(handle, None)
            handle.kill()
        gone = set(handles)
        self.handles = [handle for handle in self.handles if handle not in gone]
        self.count_machines()

    def replace(self, handle: WorkerHandle) -> list[Shard]:
        """A new worker for an old one; the shards that this one had."""
        self.handles[self.handles.index(handle)] = self.new()
        self._heard.pop(handle, None)
        self.count_machines()
        return handle.kill()

    def count_machines(self) -> None:
        machines = {handle.node for handle in self.handles if handle.is_ready}
        self._backlog.machines = max(len(machines - self.judge.left_out.keys()), 1)

    def count_loads(self) -> None:
        """Before shards are given out: counting for each worker anew takes a second where there are thousands."""
        self._loads = Counter(len(handle.shards) for handle in self.handles)

    def give(self, handle: WorkerHandle, shard: Shard, now: float) -> None:
        self._loads[len(handle.shards)] -= 1
        handle.give(shard)
        self._loads[len(handle.shards)] += 1
        self.hear(handle, now)

    def is_others(self, handle: WorkerHandle) -> bool:
        """Whether all that waits is the share of workers that have less in hand, or start still: near the end of a run
        nobody shall work through two shards while another has none."""
        waiting = self._backlog.waiting
        if waiting >= len(self.handles):
            return False
        return waiting <= sum(workers for load, workers in self._loads.items() if load < len(handle.shards))

    def hear(self, handle: WorkerHandle, now: float) -> None:
        self._heard[handle] = now

    def silent(self, now: float, usual: float | None, factor: float) -> list[WorkerHandle]:
        """Workers that have not been heard of for `factor` times as long as a shard usually takes: a hung GPU, say."""
        if usual is None:
            return []
        longest = max(factor * usual, _LEAST_SILENT)
        return [one for one in self.handles if one.shards and now - self._heard.get(one, now) > longest]

    def see_starts(self) -> Iterator[tuple[WorkerHandle, WorkerDied | StartFailed]]:
        starting = [handle for handle in self.handles if not handle.is_ready]
        for handle in starting:
            outcome = handle.see_start()
            if outcome is not None and handle in self.handles:  # else it was replaced with its machine, just now
                yield handle, outcome
        self._started = self._started or any(handle.is_ready for handle in self.handles)
        if any(handle.is_ready for handle in starting):
            self._failed_starts.clear()
            self.count_machines()

    def refuse(self, handle: WorkerHandle, failure: StartFailed) -> Iterator[Event]:
        """A worker that cannot start is replaced. Raises its error where most of the first ones fail alike, and
        InfrastructureError where no later one starts."""
        self._failed_starts.append(failure)
        reason, count = Counter(map(str, self._failed_starts)).most_common(1)[0]
        alike = next(other.error for other in self._failed_starts if str(other) == reason)
        if not self._started and 2 * count > self._placement.workers:
            raise alike
        at_work = any(other.is_ready for other in self.handles)  # one bad GPU among many may refuse for weeks
        if len(self._failed_starts) > 3 * self._placement.workers + 3 and not at_work:
            raise InfrastructureError(f"workers cannot start any more: {reason}") from alike
        yield WorkerReplaced(f"it cannot start: {failure}")
        yield from self.dismiss(handle, [], f"a worker cannot start: {failure}")

    def dismiss(self, handle: WorkerHandle, shards: list[Shard], reason: str) -> Iterator[Event]:
        """Judge the machine of a worker that is gone, and put another in its place, perhaps elsewhere."""
        why = self.judge.gone(handle, handle.node, [shard.url for shard in shards], reason)
        if why is not None:
            yield MachineLeftOut(handle.node, why)
            self._backlog.forgive(handle.node)
        self.replace(handle)
        if why is not None:  # its other workers will not do better, and have been given nothing that others cannot do
            for other in [other for other in self.handles if other.node == handle.node]:
                for shard in self.replace(other):
                    self._backlog.give_back(shard)
