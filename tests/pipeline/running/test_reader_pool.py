"""The pool of processes that read, without a cluster: there are as many as are needed, where there is room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Reading, Shard, ShardStats
from clipmill.pipeline.running import reader_handle
from clipmill.pipeline.running import reader_pool as module
from clipmill.pipeline.running.autoscaler import Bundle, Demand
from clipmill.pipeline.running.events import MachineLeftOut, ReadersChanged
from clipmill.pipeline.running.placement import Placement, Seat
from clipmill.pipeline.running.reader_pool import ReaderPool
from clipmill.pipeline.running.readers import ReadingFailed
from fake_readers import FakeRay, FakeWorker


def room(machine: str, processes: int, near: bool = False) -> list[Seat]:
    return [Seat(machine, 4, near)] * processes


@dataclass
class Run:
    """A pool, and the time."""

    ray: FakeRay
    seats: list[Seat]
    workers: list[FakeWorker]
    readers: int = 4  # at first
    fixed: bool = False
    left: int = 10**6  # shards
    now: float = 0.0
    events: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        placement = Placement(len(self.workers), 2, 1.0, self.readers, self.fixed)
        self.asked: list[list[Bundle]] = []
        self.pool = ReaderPool(None, placement, lambda: self.seats, Demand(self.asked.append))  # type: ignore[arg-type]
        self.look()
        self.look()  # those that have started are lent

    def look(self, seconds: float = 6.0) -> None:
        self.now += seconds
        self.events += self.pool.look(self.now, self.workers, self.left)  # type: ignore[arg-type]

    def shards(self, worker: FakeWorker, waited: float) -> None:
        """Each of its processes reads one."""
        for reader in worker.lent:
            stats = ShardStats("x", reading=Reading(reader.number, reader.machine, waited))
            self.pool.done(worker, stats)  # type: ignore[arg-type]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(reader_handle, "ray", fake)
    return fake


def test_each_worker_begins_with_its_part_of_those_that_are_nearest(ray: FakeRay) -> None:
    run = Run(ray, room("a", 2, True) + room("b", 2, True) + room("far", 9), [FakeWorker("a"), FakeWorker("b")])
    assert [worker.machines for worker in run.workers] == [{"a": 2}, {"b": 2}]
    assert [run.pool.in_flight(worker) for worker in run.workers] == [3, 3]  # type: ignore[arg-type]
    assert [event for event in run.events if isinstance(event, ReadersChanged)] == [ReadersChanged(4)]


def test_hungry_workers_get_more_and_sated_ones_give_theirs(ray: FakeRay) -> None:
    fast, slow = FakeWorker("a"), FakeWorker("b")
    run = Run(ray, room("a", 2, True) + room("b", 2, True) + room("far", 4), [fast, slow])
    for _ in range(6):
        run.shards(fast, 0.0)
        run.shards(slow, 0.8)
        run.look()
    assert len(slow.lent) == 1 and len(fast.lent) == 7
    assert ray.machines == {"a": 2, "b": 2, "far": 4}


def test_processes_that_nobody_needs_end_where_no_worker_is(ray: FakeRay) -> None:
    worker = FakeWorker("a")
    run = Run(ray, room("a", 2, True) + room("far", 6), [worker], readers=8)
    assert ray.machines == {"a": 2, "far": 6}
    for _ in range(3):
        run.shards(worker, 0.9)
        run.look()
    assert worker.machines == {"a": 1} and ray.machines == {"a": 2, "far": 6}
    run.look(module._SPARE + 1)
    assert ray.machines == {"a": 2}  # where the worker is they cost nothing


def test_near_the_end_no_worker_needs_more_than_its_shards(ray: FakeRay) -> None:
    worker = FakeWorker("a")
    run = Run(ray, room("a", 1, True) + room("far", 5), [worker], readers=6)
    run.left = 2
    run.look()
    run.look()
    run.look(module._SPARE + 1)
    assert len(worker.lent) == 2 and ray.machines == {"a": 1, "far": 1}
    run.pool.stop()
    assert not ray.alive


def test_the_autoscaler_is_asked_for_what_there_is_no_room_for_and_let_go_of_what_is_not_needed(ray: FakeRay) -> None:
    worker = FakeWorker("a")
    run = Run(ray, room("a", 2, True), [worker], readers=2)
    assert run.asked == [[{"CPU": 4.0}] * 2]
    run.shards(worker, 0.0)
    run.look()
    assert run.asked[1:] == [[{"CPU": 4.0}] * 4]
    run.left = 1
    run.look()
    assert run.asked[2:] == [[{"CPU": 4.0}]]


def test_as_many_as_were_asked_for_stay_whatever_they_tell(ray: FakeRay) -> None:
    worker = FakeWorker("a")
    run = Run(ray, room("far", 9), [worker], readers=4, fixed=True)
    for waited in (0.0, 0.0, 0.9):
        run.shards(worker, waited)
        run.look(module._SPARE + 1)
        assert ray.machines == {"far": 4}


def test_machines_that_join_are_filled_and_those_that_leave_are_forgotten(ray: FakeRay) -> None:
    worker = FakeWorker("a")
    run = Run(ray, room("a", 1, True), [worker], readers=1)
    run.seats = run.seats + room("new", 3)
    for _ in range(5):
        run.shards(worker, 0.0)
        run.look(16)
    assert worker.machines == {"a": 1, "new": 3}
    assert {actor.shares[-1] for actor in ray.alive} == {4}  # of the requests that all of them may send
    run.seats = room("a", 1, True)
    run.look(16)
    assert worker.machines == {"a": 1} and ray.machines == {"a": 1}


@pytest.mark.parametrize("fixed", [False, True])
def test_released_workers_take_their_processes_with_them(fixed: bool, ray: FakeRay) -> None:
    """Their machines are to be empty, so that others and the autoscaler get them."""
    first, second = FakeWorker("a"), FakeWorker("b")
    run = Run(ray, room("a", 2, True) + room("b", 2, True), [first, second], readers=4, fixed=fixed)
    run.workers, run.left = [first], 2
    run.look()
    run.look(module._SPARE + 1)
    assert ray.machines == {"a": 2}
    run.workers = []
    run.look()
    assert not ray.alive and run.asked[-1] == []
    run.look(module._PATIENCE + 1)  # nobody complains that none has room
    run.workers, run.left = [FakeWorker("b")], 9
    run.look()
    run.look()
    assert len(run.workers[0].lent) == 2


def test_what_read_for_a_lost_worker_is_made_anew(ray: FakeRay) -> None:
    """It may hang in the middle of a shard that nobody wants any more."""
    run = Run(ray, room("a", 2, True), [FakeWorker("a")], readers=2)
    before = list(ray.alive)
    run.workers = [FakeWorker("a")]
    run.look()
    run.look()
    assert len(run.workers[0].lent) == 2 and not set(ray.alive) & set(before)


@pytest.mark.parametrize("lost", [False, True])
def test_a_process_that_fails_and_does_not_elsewhere_is_replaced_and_then_its_machine_left_out(
    ray: FakeRay, lost: bool
) -> None:
    worker = FakeWorker("a")
    run = Run(ray, room("a", 2, True) + room("bad", 2), [worker])
    shard = 0
    for _ in range(20):
        good = [reader for reader in worker.lent if reader.machine != "bad"]
        run.pool.done(worker, ShardStats("x", reading=Reading(good[0].number, "a", 0.1)))  # type: ignore[arg-type]
        for reader in [reader for reader in worker.lent if reader.machine == "bad"]:
            shard += 1
            error = ReadingFailed("OSError: no route", reader.number, "bad", lost)
            run.events += run.pool.failed(error, Shard(f"{shard}.tar"))
        run.look()
    left_out = [event for event in run.events if isinstance(event, MachineLeftOut)]
    assert [event.machine for event in left_out] == ["bad"] and "no route" in left_out[0].reason
    assert ray.machines == {"a": 2} and shard <= 6


def test_where_none_can_start_the_run_ends_with_the_reason(ray: FakeRay) -> None:
    ray.broken = {"a"}
    with pytest.raises(InfrastructureError, match=r"processes that read cannot start: .*no clipmill there"):
        run = Run(ray, room("a", 2, True), [FakeWorker("a")])
        for _ in range(99):
            run.look()


def test_one_machine_where_none_can_start_is_left_out(ray: FakeRay) -> None:
    ray.broken = {"bad"}
    worker = FakeWorker("a")
    run = Run(ray, room("a", 1, True) + room("bad", 3), [worker])
    for _ in range(9):
        run.shards(worker, 0.0)
        run.look()
    assert [event.machine for event in run.events if isinstance(event, MachineLeftOut)] == ["bad"]
    assert worker.machines == {"a": 1} == ray.machines


def test_where_there_is_no_room_for_any_the_run_ends_after_a_while(ray: FakeRay) -> None:
    ray.full = {"a"}
    run = Run(ray, room("a", 2, True), [FakeWorker("a")])
    assert run.pool.in_flight(run.workers[0]) == 0  # type: ignore[arg-type]
    with pytest.raises(InfrastructureError, match="no machine had CPUs for a process that reads: name fewer"):
        run.look(module._PATIENCE)


def test_a_worker_that_has_not_started_is_lent_nothing(ray: FakeRay) -> None:
    run = Run(ray, room("a", 2, True), [FakeWorker("a", is_ready=False)])
    assert run.workers[0].lent == []
    run.workers[0].is_ready = True
    run.look(0.1)
    assert len(run.workers[0].lent) == 2


def test_a_thousand_workers_have_their_own_machines_processes(ray: FakeRay) -> None:
    workers = [FakeWorker(f"m{number % 125}") for number in range(1000)]
    run = Run(ray, [seat for number in range(125) for seat in room(f"m{number}", 48, True)], workers, readers=6000)
    assert all(worker.machines == {worker.node: 6} for worker in run.workers)
