"""The processes that read and decode for a run's workers: made, lent, moved and ended as they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence

from ..errors import InfrastructureError
from ..records import Shard, ShardStats
from .autoscaler import Demand
from .events import Event, MachineLeftOut, ReadersChanged
from .judge import Judge
from .lending import Appetite, lend
from .placement import READER_CPUS, Placement, Seat
from .reader_handle import ReaderHandle, see_starts, send
from .reader_processes import ReaderSettings
from .readers import Readers, ReadingFailed
from .worker_handle import WorkerHandle

_LOOK = 5.0  # seconds between two looks at who needs how many
_MACHINES = 15.0  # seconds between two looks at what the cluster has
_SPARE = 60.0  # seconds in which a process that nobody needs may be needed again
_AT_A_TIME = 1000  # that the autoscaler is asked for beyond those that there are
_PATIENCE = 600.0  # seconds until the first one has found room; machines may have to be started first


class ReaderPool(Readers):
    """All reading processes of a run, and whom each of them reads for."""

    def __init__(
        self, settings: ReaderSettings, placement: Placement, seats: Callable[[], list[Seat]], demand: Demand
    ) -> None:
        """seats: where there is room for one, as machines join and leave; those beside workers first."""
        self._demand = demand
        self._settings, self._placement, self._find_seats = send(settings), placement, seats
        self._readers: dict[int, ReaderHandle] = {}
        self._lent: dict[int, WorkerHandle] = {}
        self._told: dict[WorkerHandle, list[int]] = {}  # what each worker knows of that
        self._appetites: dict[WorkerHandle, Appetite] = {}
        self._judge = Judge()
        self._seats: list[Seat] = []
        self._made = 0
        self._began: float | None = None
        self._looked = self._saw_machines = float("-inf")
        self._any_started = False

    def in_flight(self, worker: WorkerHandle) -> int:
        """Shards that a worker may have: one more than processes read for it, since one is about to end."""
        appetite = self._appetites.get(worker)
        return appetite.lent + 1 if appetite and appetite.lent else 0

    def done(self, worker: WorkerHandle, stats: ShardStats) -> None:
        """A worker has done a shard."""
        if stats.reading is not None:
            self._judge.succeeded(stats.reading.reader, stats.reading.machine)
            if worker in self._appetites:
                self._appetites[worker].hear(stats.reading.waited)

    def failed(self, error: ReadingFailed, shard: Shard) -> Iterator[Event]:
        """A process could not read a shard, or is lost."""
        if error.reader not in self._readers:
            return
        if error.lost or self._judge.failed(error.reader, error.machine, shard.url, str(error)):
            yield from self._dismiss(error.reader, [shard.url], str(error))

    def look(self, now: float, workers: Sequence[WorkerHandle], left: int) -> Iterator[Event]:
        """See to it that all workers that have started have the processes that they need. left: shards of the run that
        are not done."""
        if not workers:  # all were released; there may be some again
            self.stop()
            self._demand.need("readers", [])
            self._began = None
            return
        self._began = now if self._began is None else self._began
        news = yield from self._see_starts(now)
        ready = [worker for worker in workers if worker.is_ready]
        if ready == list(self._appetites) and not news and now - self._looked < _LOOK:
            return
        self._looked = now
        if now - self._saw_machines >= _MACHINES:
            self._saw_machines, self._seats = now, self._find_seats()
        self._end_lost_ones()
        self._know(ready)
        before = len(self._readers)
        wanted = self._wanted(ready, workers, left)
        if self._placement.fixed:
            needed = -(-self._placement.readers * min(len(workers), self._placement.workers) // self._placement.workers)
        else:
            needed = max(sum(wanted.values()), self._at_first(left) if not self._any_started else 0)
        self._resize(now, needed, {worker.node for worker in workers})
        self._lend(ready, wanted)
        if len(self._readers) != before:
            for reader in self._readers.values():
                reader.share(len(self._readers))
            yield ReadersChanged(len(self._readers))

    def stop(self) -> None:
        for number in list(self._readers):
            self._end(number)

    def _at_first(self, left: int) -> int:
        return min(self._placement.readers, max(left, 1))

    def _wanted(self, ready: list[WorkerHandle], workers: Sequence[WorkerHandle], left: int) -> dict[WorkerHandle, int]:
        first = -(-self._placement.readers // max(self._placement.workers, 1))
        most = max(1, -(-left // max(len(workers), 1)))  # near the end no worker needs more than its shards
        return {worker: min(self._appetites[worker].wanted() or first, most) for worker in ready}

    def _know(self, ready: list[WorkerHandle]) -> None:
        """Forget workers that are gone. What read for them may hang in the middle of a shard, and is made anew."""
        for number, worker in list(self._lent.items()):
            if worker not in ready:
                self._end(number)
        self._appetites = {worker: self._appetites.get(worker) or Appetite() for worker in ready}

    def _see_starts(self, now: float) -> Generator[Event, None, bool]:
        """Whether there is one more."""
        if not self._any_started and self._began is not None and now - self._began > _PATIENCE:
            raise InfrastructureError(
                f"in {_PATIENCE:g} s no machine had CPUs for a process that reads: name fewer --decode-workers"
            )
        news = False
        for reader, reason in see_starts(list(self._readers.values())):
            if reason is None:
                self._any_started = news = True
            else:
                yield from self._refuse(reader.lent.number, reason)
        return news

    def _refuse(self, number: int, reason: str) -> Iterator[Event]:
        """One that did not start. InfrastructureError where none does."""
        if not self._any_started and self._made > 3 * self._placement.readers + 3:
            raise InfrastructureError(f"processes that read cannot start: {reason}")
        yield from self._dismiss(number, [], f"cannot start: {reason}")

    def _dismiss(self, number: int, shards: list[str], reason: str) -> Iterator[Event]:
        machine = self._readers[number].seat.machine
        why = self._judge.gone(number, machine, shards, reason)
        self._end(number)
        self._looked = float("-inf")  # another takes its place at once
        if why is not None:
            yield MachineLeftOut(machine, f"{why} (it reads no more)")

    def _end_lost_ones(self) -> None:
        """Those whose machine has left."""
        machines = {seat.machine for seat in self._seats}
        for number in [number for number, reader in self._readers.items() if reader.seat.machine not in machines]:
            self._end(number)

    def _resize(self, now: float, needed: int, manned: Collection[str]) -> None:
        """More processes where there is room for them; those that nobody has needed for a while are ended where no
        worker is, so that such machines can go. manned: machines with workers."""
        for seat in self._vacant()[: max(0, needed - len(self._readers))]:
            self._start(seat)
        self._ask(needed)
        spare = [
            number
            for number, reader in self._readers.items()
            if number not in self._lent and not (reader.seat.near and reader.seat.machine in manned)
        ]
        for number, reader in self._readers.items():
            reader.spare_since = (reader.spare_since or now) if number in spare else None
        if len(self._readers) > needed:
            for number in spare[: len(self._readers) - needed]:
                if now - (self._readers[number].spare_since or now) > _SPARE:
                    self._end(number)

    def _ask(self, needed: int) -> None:
        """The autoscaler, for machines with CPUs: processes that there are, as far as they are needed, and more."""
        there = [reader.seat.cpus for reader in self._readers.values()][:needed]
        more = [READER_CPUS] * min(needed - len(there), _AT_A_TIME)
        self._demand.need("readers", [{"CPU": float(cpus)} for cpus in there + more])

    def _vacant(self) -> list[Seat]:
        """Seats that nobody has, on machines that read well."""
        taken = Counter(reader.seat for reader in self._readers.values())
        cpus = Counter[str]()
        for reader in self._readers.values():
            cpus[reader.seat.machine] += reader.seat.cpus
        room = Counter[str]()
        for seat in self._seats:
            room[seat.machine] += seat.cpus
        vacant = []
        for seat in self._seats:
            if taken[seat] > 0:
                taken[seat] -= 1
            elif seat.machine not in self._judge.left_out and cpus[seat.machine] + seat.cpus <= room[seat.machine]:
                cpus[seat.machine] += seat.cpus
                vacant.append(seat)
        return vacant

    def _start(self, seat: Seat) -> None:
        self._made += 1
        self._readers[self._made] = ReaderHandle(self._made, seat, self._settings)

    def _end(self, number: int) -> None:
        self._lent.pop(number, None)
        self._readers.pop(number).kill()

    def _lend(self, ready: list[WorkerHandle], wanted: dict[WorkerHandle, int]) -> None:
        places = {worker: worker.node for worker in ready}
        started = {number: one.seat.machine for number, one in self._readers.items() if one.starting is None}
        self._lent = lend(wanted, places, started, self._lent)
        by_worker = _by_worker(self._lent)
        for worker in ready:
            if (numbers := by_worker.get(worker, [])) != self._told.get(worker, []):
                worker.lend([self._readers[number].lent for number in numbers])
            self._appetites[worker].now_has(len(numbers))
        self._told = by_worker


def _by_worker(lent: Mapping[int, WorkerHandle]) -> dict[WorkerHandle, list[int]]:
    numbers: dict[WorkerHandle, list[int]] = {}
    for number in sorted(lent):
        numbers.setdefault(lent[number], []).append(number)
    return numbers
