"""A thousand workers, ten of them bad, in simulated time: every shard is done, and little work is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.driver import run_shards
from clipmill.pipeline.running.events import Event, MachineLeftOut, MachineSlow, ShardDone, ShardFailed, ShardRetried
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.run_options import RunOptions
from simulated import Kind, simulated

WORKERS, A_MACHINE = 1000, 8
SHARDS = [Shard(f"/{number:05d}.tar") for number in range(10_000)]
ALL: list[Kind] = ["starts", "starts", "fails", "fails", "fails", "hangs", "hangs", "slow", "slow", "slow"]


def run(kinds: list[Kind]) -> tuple[list[Event], float]:
    """What happens, and the share of the GPUs' time that is lost with shards that are begun again."""
    with simulated(kinds, A_MACHINE) as cluster:
        events = list(run_shards(SHARDS, object, Placement(len(kinds), 1, 1.0)))  # type: ignore[arg-type]
        return events, cluster.lost / (cluster.lost + cluster.used)


@pytest.mark.parametrize("bad", [ALL, ["starts"] * 10, ["fails"] * 10, ["hangs"] * 10, ["slow"] * 10])
@pytest.mark.parametrize("apart", [True, False])  # on ten machines, or as far as possible on one
def test_ten_bad_workers_of_a_thousand_cost_no_shard(bad: list[Kind], apart: bool) -> None:
    kinds: list[Kind] = ["good"] * WORKERS
    for number, kind in enumerate(bad):
        kinds[number * WORKERS // len(bad) if apart else number] = kind
    events, lost = run(kinds)
    done = Counter(event.shard.url for event in events if isinstance(event, ShardDone))
    assert len(done) == len(SHARDS) and set(done.values()) == {1}
    assert not any(isinstance(event, ShardFailed) for event in events)
    assert lost < 0.03


def test_a_machine_with_a_slow_worker_is_named() -> None:
    kinds: list[Kind] = ["good"] * 3 * A_MACHINE
    kinds[A_MACHINE + 3] = "slow"
    events, _ = run(kinds)
    (slow,) = [event for event in events if isinstance(event, MachineSlow)]
    assert slow.machine == "machine-1" and slow.times > 10


def test_what_failed_goes_to_workers_that_have_done_something() -> None:
    """Every fifth worker fails at once, and so asks for shards thirty times as often."""
    kinds: list[Kind] = ["good", "good", "good", "good", "fails"] * 10
    events, _ = run(kinds)
    assert sum(isinstance(event, ShardDone) for event in events) == len(SHARDS)
    assert max(Counter(event.shard.url for event in events if isinstance(event, ShardRetried)).values()) <= 2


def test_a_gpu_that_starts_no_worker_does_not_end_a_run_that_goes_on() -> None:
    events, _ = run(["good", "good", "good", "starts"])
    assert sum(isinstance(event, ShardDone) for event in events) == len(SHARDS)


def test_a_shard_that_a_second_worker_has_done_is_not_taken_from_the_one_that_hangs_with_it() -> None:
    """Others are slow, so that the run goes on until it is found to hang."""
    kinds: list[Kind] = ["good"] * 100
    kinds[::10] = ALL
    with simulated(kinds, A_MACHINE):
        events = list(run_shards(SHARDS[:2000], object, Placement(100, 1, 1.0)))  # type: ignore[arg-type]
    assert sum(isinstance(event, ShardDone) for event in events) == 2000


@pytest.mark.parametrize("kind", ["hangs", "starts"])
def test_workers_of_one_machine_may_go_wrong_at_one_moment(kind: Kind) -> None:
    """The second of them has the machine left out, and the others are replaced with it, before their turn comes."""
    kinds: list[Kind] = [*["good"] * A_MACHINE, *[kind] * A_MACHINE]
    with simulated(kinds, A_MACHINE) as cluster:
        cluster.turned = lambda: cluster.clock.sleep(300.0)  # the driver looks seldom
        options = RunOptions(patience=1e9)
        events = list(run_shards(SHARDS[:500], object, Placement(len(kinds), 1, 1.0), options))  # type: ignore[arg-type]
    assert sum(isinstance(event, ShardDone) for event in events) == 500
    assert {event.machine for event in events if isinstance(event, MachineLeftOut)} == {"machine-1"}
