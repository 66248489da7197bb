"""Where the time goes: at work, waiting for what comes in, waiting for room for what goes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clipmill.pipeline.embedding import clock as module
from clipmill.pipeline.embedding.clock import Clock, WorkerClock
from clipmill.pipeline.records import Times
from clipmill.pipeline.storage.ahead import ahead


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time that passes when told to; a quarter of it is the processor's."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module.time, "process_time", lambda: now[0] / 4)

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_stages_add_up(passes: Any) -> None:
    clock = Clock()
    for seconds in (1, 2):
        with clock.stage("write"):
            passes(seconds)
        passes(10)
    assert clock.times().busy == {"write": 3, "total": 23, "cores": 23 / 4}


def test_a_stage_that_fails_was_busy_too(passes: Any) -> None:
    clock = Clock()
    with pytest.raises(OSError), clock.stage("write"):
        passes(2)
        raise OSError
    assert clock.times().busy["write"] == 2


def test_making_items_is_timed_and_using_them_is_not(passes: Any) -> None:
    def items() -> Iterator[int]:
        for item in range(3):
            passes(1)
            yield item

    clock, used = Clock(), []
    for item in clock.timed("read", items()):
        used.append(item)
        passes(10)
    assert used == [0, 1, 2] and clock.times().busy == {"read": 3, "total": 33, "cores": 33 / 4}


def test_shards_in_a_stage_at_once_share_its_time(passes: Any) -> None:
    worker = WorkerClock()
    first, second = Clock(worker), Clock(worker)
    with first.stage("encode"):
        passes(1)
        with second.stage("encode"):
            passes(4)
        passes(2)
        with second.stage("write"):  # another stage is another matter
            passes(8)
    assert first.times().busy["encode"] == 1 + 2 + 2 + 8 and second.times().busy["encode"] == 2
    assert second.times().busy["write"] == 8


def test_a_shard_that_is_still_in_a_stage_has_its_share_already(passes: Any) -> None:
    worker = WorkerClock()
    first, second = Clock(worker), Clock(worker)
    with first.stage("worker"), second.stage("worker"):
        passes(2)
        assert first.times().busy == {"worker": 1, "total": 2, "cores": 1 / 4}
        passes(2)
    assert first.times().busy["worker"] == second.times().busy["worker"] == 2


def test_who_waits_for_whom_is_told_and_adds_up(passes: Any) -> None:
    clock = Clock()
    waits = clock.between("read", "decode")
    with waits.for_items():
        passes(1)
    with clock.stage("decode"):
        passes(2)
    with clock.stage("read"):
        passes(4)
    with waits.for_room():
        passes(8)
    passes(16)
    times = clock.times()
    assert times.starved == {"decode": 1}
    # what is neither work nor a wait that somebody noted is after a stage's last item, when it waits for the others
    assert times.blocked == {"read": 8 + 19, "decode": 28}
    for stage in ("read", "decode"):
        assert times.busy[stage] + times.starved.get(stage, 0) + times.blocked[stage] == times.busy["total"]


@pytest.mark.parametrize(("slow", "fast", "kind"), [("read", "decode", "starved"), ("decode", "read", "blocked")])
def test_the_faster_of_two_stages_waits(slow: str, fast: str, kind: str) -> None:
    clock = Clock()
    pause = {slow: 0.01, fast: 0.0}

    def items() -> Iterator[int]:
        for item in range(20):
            with clock.stage("read"):
                time.sleep(pause["read"])
            yield item

    with ahead(items(), 1, clock.between("read", "decode")) as read:
        for _ in read:
            with clock.stage("decode"):
                time.sleep(pause["decode"])
    times = clock.times()
    assert getattr(times, kind)[fast] > 0.1
    assert times.busy[slow] > 0.2 > times.busy[fast]


def test_what_other_processes_did_is_counted_as_their_part_of_the_stage(passes: Any) -> None:
    """Two of them decode for this worker, so that one is half of its decoding."""
    clock = Clock()
    passes(10)
    clock.add(Times({"decode": 6.0, "total": 9.0, "cores": 5.0}, {"decode": 1.0}, {"decode": 2.0}), processes=2)
    times = clock.times()
    assert times.busy == {"decode": 3, "total": 10, "cores": 10 / 4 + 5}  # all of its cores count
    assert times.starved == {"decode": 1} and times.blocked == {"decode": 2 + 1}  # until this shard's end


def test_shards_in_work_share_the_workers_cores(passes: Any) -> None:
    worker = WorkerClock()
    first, second = Clock(worker), Clock(worker)
    with first.stage("worker"):
        passes(4)
        with second.stage("worker"):
            passes(8)
    passes(100)  # nobody's
    with second.stage("worker"):
        passes(4)
    assert first.times().busy["cores"] == (4 + 4) / 4 and second.times().busy["cores"] == (4 + 4) / 4


def test_what_a_gpu_measured_is_charged_to_those_who_encode() -> None:
    worker = WorkerClock()
    clocks = first, second, third = Clock(worker), Clock(worker), Clock(worker)
    worker.charge("gpu", 99)  # nobody is there
    with first.stage("worker"), second.stage("worker"):
        worker.charge("engines", 2)  # nobody encodes: for all in work
        with second.stage("encode"), third.stage("encode"):
            worker.charge("gpu", 8)
    charged = [(clock.times().busy.get("engines", 0), clock.times().busy.get("gpu", 0)) for clock in clocks]
    assert charged == [(1, 0), (1, 4), (0, 4)]
