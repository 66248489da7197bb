"""Give out shards to workers until every one is done or given up: retries, stragglers, workers that come and go."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import InfrastructureError, ShardError, StorageFullError, UserError
from ..records import Shard
from .backlog import Backlog
from .cluster import leaving
from .crew import Crew
from .events import (
    DoneElsewhere,
    Event,
    MachineSlow,
    Rows,
    ShardDone,
    ShardFailed,
    ShardLate,
    ShardRetried,
    Stopping,
    Waiting,
    WorkerLost,
    WorkerMoved,
    WorkerReplaced,
    WorkersAdded,
    WorkersStarted,
)
from .paces import Paces
from .placement import Placement
from .readers import ReadingFailed
from .run_options import RunOptions
from .sources import Listed, ShardSource
from .tail import Tail
from .worker_handle import WorkerDied, WorkerHandle, news, send, settled

if TYPE_CHECKING:  # torch takes a second: not before what is missing is refused
    from .worker import WorkerFactory

_WAIT = 0.3  # seconds
_TELL = 0.5  # seconds between two questions about progress
_LOOK = 1.0  # seconds between two looks at which machines are about to leave
_GROW = 15.0  # seconds between two looks at what the cluster has
_SPARE = 2.0  # seconds before a machine leaves, when its worker lets go of what it has not done


def run_shards(
    shards: Iterable[Shard] | ShardSource,
    factory: WorkerFactory,
    placement: Placement,
    options: RunOptions | None = None,
) -> Iterator[Event]:
    """Embed every shard, with an event as each ends. A lost worker is replaced and its shards are given out again.

    Raises what a worker could not start for, and InfrastructureError when workers keep dying, or no machine is left.
    """
    options = options or RunOptions()
    source = shards if isinstance(shards, ShardSource) else Listed(shards)
    driver = _Driver(source, factory, placement, options)
    gc.freeze()  # looking through a million shards takes the collector seconds, again and again
    try:
        yield from driver.run()
    finally:
        gc.unfreeze()
        driver.stop()


class _Driver:
    def __init__(self, source: ShardSource, factory: WorkerFactory, placement: Placement, options: RunOptions) -> None:
        self._source, self._placement, self._options = source, placement, options
        self._backlog = Backlog((), options.limits)
        self._crew = Crew(send(factory), placement, self._backlog, placement.workers if source.left else 0)
        self._readers = options.readers()
        self._tail = Tail(self._crew, self._backlog, options.need)
        self._paces = Paces()
        self._lost = 0  # workers, since a shard was done
        self._leaving: dict[str, float] = {}  # machine -> when its workers have to be gone
        self._told = self._grown = self._looked = self._manned = time.monotonic()
        self._stopping = self._over = self._waiting = False

    @property
    def _handles(self) -> list[WorkerHandle]:
        return self._crew.handles

    def run(self) -> Iterator[Event]:
        started = False
        while not self._over and (self._source.left or not self._backlog.is_empty):
            yield from self._draw()
            yield from self._see_starts()
            if not started and (ready := next((handle for handle in self._handles if handle.is_ready), None)):
                started = True
                yield WorkersStarted(len(self._handles), ready.start_up)
            yield from self._readers.look(time.monotonic(), self._handles, self._left())
            self._crew.count_loads()
            for handle in self._handles:
                yield from self._fill(handle)
            yield from self._collect()
            yield from self._progress()
            yield from self._take_away()
            yield from self._leave()
            yield from self._tail.look(time.monotonic(), self._coming)
            yield from self._grow()
            yield from self._heed_stop()

    def stop(self) -> None:
        for handle in self._handles:
            handle.kill()
        self._readers.stop()

    def _left(self) -> int:
        """Shards that are not done."""
        return self._source.left + self._backlog.waiting + sum(len(handle.shards) for handle in self._handles)

    @property
    def _coming(self) -> int:
        """Shards that the source may give now."""
        return 0 if self._source.waits else self._source.left

    def _see_starts(self) -> Iterator[Event]:
        for handle, outcome in self._crew.see_starts():
            if isinstance(outcome, WorkerDied):
                yield from self._lose(handle, outcome)
            else:
                yield from self._crew.refuse(handle, outcome)

    def _draw(self) -> Iterator[Event]:
        """More shards than workers may hold; while other runs have what is left, none."""
        enough = (
            sum(self._readers.in_flight(handle) + 1 for handle in self._handles) or 1
        )  # if all workers are released
        while (wanted := enough - self._backlog.waiting) > 0 and (shards := self._source.take(wanted)):
            self._backlog.add(shards)
        if elsewhere := self._source.elsewhere():
            yield DoneElsewhere(len(elsewhere))
        if self._backlog.is_empty and self._source.waits and not self._waiting:
            self._waiting = True
            yield Waiting(self._source.left)

    def _fill(self, handle: WorkerHandle) -> Iterator[Event]:
        """Give a worker as many shards as it may hold; when none waits, perhaps one that another is late with."""
        if not handle.is_ready or handle.node in self._leaving:
            return
        now, again = time.monotonic(), self._crew.judge.may_try_again(handle, self._handles)
        while len(handle.shards) < self._readers.in_flight(handle):
            shard = self._backlog.peek(now, handle.node, again)
            if shard is None or self._crew.is_others(handle):
                break
            if handle.shards and any(map(self._backlog.failed_before, (shard, *handle.shards.values()))):
                return  # what failed before goes alone: if it kills its worker again, no other shard is blamed
            self._crew.give(handle, self._backlog.take(now, handle.node, again), now)
        if not handle.shards and self._readers.in_flight(handle) and (late := self._backlog.late(now, handle.node)):
            yield ShardLate(late)
            self._crew.give(handle, late, now)

    def _collect(self) -> Iterator[Event]:
        for handle, shard, outcome in settled(self._handles, _WAIT):
            self._crew.hear(handle, time.monotonic())
            if isinstance(outcome, WorkerDied):
                yield from self._lose(handle, outcome)
            elif isinstance(outcome, Exception):
                yield from self._failed(handle, shard, outcome)
            else:
                attempt = self._backlog.attempt(shard)
                self._lost = 0  # over weeks on spot machines, many are lost and nothing is wrong
                self._crew.judge.succeeded(handle, handle.node)
                self._readers.done(handle, outcome)
                now = time.monotonic()
                seconds, usual = self._backlog.out_for(shard, now), self._backlog.usual()
                if self._backlog.done(shard, now):
                    yield ShardDone(shard, outcome, attempt, handle.node)
                if seconds and (times := self._paces.done(handle, handle.node, seconds, usual)):
                    yield MachineSlow(handle.node, times)

    def _failed(self, handle: WorkerHandle, shard: Shard, error: Exception) -> Iterator[Event]:
        if isinstance(error, (UserError, StorageFullError)):  # the same for every shard
            raise error
        final = isinstance(error, ShardError)
        reason, attempt = str(error) or type(error).__name__, self._backlog.attempt(shard)
        machine = error.machine if isinstance(error, ReadingFailed) else handle.node
        if self._backlog.failed(shard, time.monotonic(), final=final, machine=machine):
            yield ShardFailed(shard, reason, attempt, machine)
        elif not final:
            yield ShardRetried(shard, reason, attempt, machine)
        if isinstance(error, ReadingFailed):
            yield from self._readers.failed(error, shard)
        elif not final and self._crew.judge.failed(handle, handle.node, shard.url, reason):
            yield WorkerReplaced(reason)
            for other in handle.shards.values():
                self._backlog.give_back(other)
            yield from self._crew.dismiss(handle, [], reason)

    def _lose(self, handle: WorkerHandle, error: WorkerDied) -> Iterator[Event]:
        if error.preempted or handle.node in self._leaving:  # as announced
            yield from self._move(handle)
            return
        self._lost += 1
        if self._lost > 3 * self._placement.workers + 3:
            raise InfrastructureError(f"workers keep dying: {error}") from error
        yield WorkerLost(str(error))
        shards = list(handle.shards.values())
        for shard in shards:
            if self._backlog.failed(shard, time.monotonic(), machine=handle.node):
                attempts = self._backlog.attempt(shard) - 1
                yield ShardFailed(shard, f"its worker died {attempts} times: {error}", attempts, handle.node)
        yield from self._crew.dismiss(handle, shards, str(error))

    def _take_away(self) -> Iterator[Event]:
        """Shards beyond the deadline, or of workers that have gone silent: their worker hangs, and is replaced."""
        now = time.monotonic()
        overdue = self._backlog.overdue(now)
        holders = {shard: handle for handle in self._handles for shard in handle.shards.values()}
        for shard in overdue:  # all of them first: a worker may hang with several
            reason = f"not done within the deadline of {self._options.limits.deadline:g} s"
            yield from self._take(shard, holders.get(shard), reason)
        limit = self._options.limits.silent
        silent = self._crew.silent(now, self._backlog.usual(), limit)
        for handle in silent:
            for shard in handle.shards.values():
                yield from self._take(shard, handle, "its worker has gone silent")
        for handle in [one for one in self._handles if one in silent or any(s in overdue for s in one.shards.values())]:
            if handle not in self._handles:  # replaced with its machine, for another of its workers
                continue
            shards = list(handle.shards.values())
            yield from self._crew.dismiss(handle, shards, "hangs")
            for other in shards:
                self._backlog.give_back(other)

    def _take(self, shard: Shard, handle: WorkerHandle | None, reason: str) -> Iterator[Event]:
        if not self._backlog.is_out(shard):  # a second worker has done it
            return
        attempt = self._backlog.attempt(shard)
        machine = handle.node if handle else ""
        kind = ShardFailed if self._backlog.expire(shard, time.monotonic(), machine) else ShardRetried
        yield kind(shard, reason, attempt, machine)

    def _leave(self) -> Iterator[Event]:
        """Workers on machines that are about to leave get no more shards, end what they have in hand or give it back
        in time, and are replaced by others elsewhere. Nobody is blamed."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._leaving |= {node: now + seconds - _SPARE for node, seconds in leaving().items()}
        for handle in [handle for handle in self._handles if handle.node in self._leaving]:
            if not handle.shards or now > self._leaving[handle.node]:
                yield from self._move(handle)

    def _move(self, handle: WorkerHandle) -> Iterator[Event]:
        unfinished = self._crew.replace(handle)
        for shard in unfinished:
            self._backlog.give_back(shard)
        yield WorkerMoved(len(unfinished))

    def _grow(self) -> Iterator[Event]:
        """More workers where machines have joined the cluster. Those that leave unannounced are lost workers."""
        now = time.monotonic()
        if now - self._grown < _GROW or self._stopping:
            return
        self._grown = now
        workers, wanted = self._options.workers(), self._tail.wanted(self._coming)
        if workers or not wanted or any(handle.is_ready for handle in self._handles):
            self._manned = now
        elif now - self._manned > self._options.patience:
            raise InfrastructureError(
                "the cluster has no machine left for workers; run the same command again to go on"
            )
        more = min(workers, wanted) - len(self._handles)
        if more > 0:
            self._crew.grow(more)
            yield WorkersAdded(more)

    def _heed_stop(self) -> Iterator[Event]:
        answer = self._options.until.ask(len(self._handles), self._backlog.usual())
        self._over = not answer.go_on
        if not self._stopping and not answer.begin:
            self._stopping = True
            left = self._source.left
            self._source.give_up()
            in_hand = 0 if self._over else sum(len(handle.shards) for handle in self._handles)
            yield Stopping(left + self._backlog.close(), in_hand, answer.why)

    def _progress(self) -> Iterator[Event]:
        """Rows since the last look, of all workers; waits for none."""
        now = time.monotonic()
        if now - self._told < _TELL and not self._backlog.is_empty:
            return
        self._told = now
        embedded = failed = 0
        for handle, more_embedded, more_failed in news(self._handles):
            embedded, failed = embedded + more_embedded, failed + more_failed
            self._crew.hear(handle, now)
        if embedded or failed:
            yield Rows(embedded, failed, sum(len(handle.shards) for handle in self._handles))
