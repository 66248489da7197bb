"""Who reads and decodes: how a cluster's CPUs are divided between workers and the processes that read for them."""

from __future__ import annotations

import pytest
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running.placement import Node, Placement, Seat, divide, reading_rooms, seats
from hypothesis import given
from hypothesis import strategies as st


def nodes(*sizes: tuple[int, int]) -> list[Node]:
    return [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus} for cpus, gpus in sizes]


# machines as (CPUs, GPUs), --decode-workers, workers, CPUs of each, reading processes at first and at most
CLUSTERS = {
    "fifty of 8 GPUs and one small one": ([(208, 8)] * 50 + [(4, 1)], None, 401, 2, 2401, 2401),
    "a thousand CPU machines beside 1,000 H100": ([(208, 8)] * 125 + [(96, 0)] * 1000, None, 1000, 2, 8000, 30_000),
    "64 GPUs, 32 CPU machines, processes named": ([(26, 8)] * 8 + [(96, 0)] * 32, 960, 64, 1, 960, 960),
    "one H200": ([(16, 1)], None, 1, 2, 4, 4),
    "a laptop": ([(10, 0)], None, 5, 2, 0, 0),
    "two cores": ([(2, 0)], None, 2, 1, 0, 0),
    "an odd number of cores": ([(11, 0)], None, 11, 1, 0, 0),
    "a cluster that grows from nothing": ([(0, 0), (8, 1)], None, 1, 2, 2, 2),
    "two kinds of GPU machines": ([(96, 8), (208, 8)], None, 16, 2, 68, 68),
    "CPU machines of three sizes": ([(6, 0), (64, 0), (10, 0)], None, 19, 4, 0, 0),
    "CPUs, processes named": ([(16, 0)] * 4, 16, 16, 2, 16, 16),
    "more GPUs than CPUs": ([(4, 8)], None, 4, 1, 0, 0),
    "a GPU with two cores": ([(2, 1)], None, 1, 1, 1, 1),
    "a GPU that readers are far from": ([(1, 1), (64, 0)], None, 1, 1, 8, 16),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_core_is_used_and_none_twice(name: str) -> None:
    machines, processes, workers, cpus, first, most = CLUSTERS[name]
    cluster = nodes(*machines)
    placement = divide(cluster, None, None, 10**6, processes)
    rooms = reading_rooms(placement, cluster)
    assert (placement.workers, placement.cpus, placement.gpus > 0) == (workers, cpus, any(gpus for _, gpus in machines))
    assert (placement.readers, sum(map(len, rooms))) == (first, most)
    check(placement, cluster, rooms)
    used = placement.workers * placement.cpus + sum(map(sum, rooms))
    assert used >= 0.95 * sum(cores for cores, _ in machines)


def check(placement: Placement, cluster: list[Node], rooms: list[list[int]]) -> None:
    """No core has two uses, on any machine."""
    for node, room in zip(cluster, rooms, strict=True):
        here = min(placement.room([node]), placement.workers)
        assert here * placement.cpus + sum(room) <= node["CPU"]
        assert all(1 <= cpus <= 4 for cpus in room)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 10)), min_size=1, max_size=20),
    st.none() | st.integers(1, 30),
    st.none() | st.sampled_from([0.0, 0.25, 1.0, 2.0]),
    st.integers(0, 5000),
    st.none() | st.integers(0, 600),
)
def test_no_core_has_two_uses_on_any_cluster(
    machines: list[tuple[int, int]], workers: int | None, share: float | None, shards: int, processes: int | None
) -> None:
    cluster = nodes(*machines)
    try:
        placement = divide(cluster, workers, share, shards, processes)
    except UserError:
        return
    assert 1 <= placement.workers <= placement.room(cluster)
    rooms = reading_rooms(placement, cluster)
    check(placement, cluster, rooms)
    assert sum(map(len, rooms)) >= placement.readers
    if processes and placement.readers:
        assert sum(map(len, rooms)) == processes


@pytest.mark.parametrize(
    ("shards", "first"),
    [(99, 4), (3, 2), (1, 1)],  # a shard each, and one that is about to end
)
def test_short_runs_begin_with_few(shards: int, first: int) -> None:
    assert divide(nodes((16, 1)), None, None, shards, None).readers == first


@pytest.mark.parametrize(
    ("machines", "workers", "asked", "expected", "rooms"),
    [
        ([(2, 0)], 1, 1, Placement(1, 1, 0.0, 1, True, 1), [[1]]),
        ([(8, 0)], 2, 2, Placement(2, 2, 0.0, 2, True, 2), [[2, 2]]),
        ([(8, 0)], 2, 3, Placement(2, 2, 0.0, 3, True, 2), [[2, 1, 1]]),
        ([(16, 1)], None, 12, Placement(1, 2, 1.0, 12, True), [[2, 2, *[1] * 10]]),
        ([(16, 1)], None, 2, Placement(1, 2, 1.0, 2, True), [[4, 4]]),
        ([(16, 1), (64, 0)], None, 5, Placement(1, 2, 1.0, 5, True), [[4], [4, 4, 4, 4]]),
        ([(16, 1)], None, 0, Placement(1, 8.0, 1.0), [[]]),
    ],
)
def test_so_many_as_are_asked_for(
    machines: list[tuple[int, int]], workers: int | None, asked: int, expected: Placement, rooms: list[list[int]]
) -> None:
    placement = divide(nodes(*machines), workers, None, 99, asked)
    assert placement == expected
    assert reading_rooms(placement, nodes(*machines)) == rooms


@pytest.mark.parametrize(("machines", "asked"), [([(2, 0)], 2), ([(2, 1)], 2), ([(16, 1)], 15)])
def test_more_than_there_are_cpus_for_is_refused(machines: list[tuple[int, int]], asked: int) -> None:
    with pytest.raises(UserError, match=f"--decode-workers {asked}: the cluster has CPUs for "):
        divide(nodes(*machines), None, None, 99, asked)


def test_those_beside_workers_come_first_and_then_one_machine_after_the_other() -> None:
    cluster = {"c": {"CPU": 8.0}, "g": {"CPU": 8.0, "GPU": 1.0}, "d": {"CPU": 9.0}}
    placement = divide(list(cluster.values()), None, None, 99, None)
    expected = [("g", 3), ("g", 3), ("c", 4), ("d", 3), ("c", 4), ("d", 3), ("d", 3)]
    assert seats(placement, cluster) == [Seat(machine, cpus, machine == "g") for machine, cpus in expected]
