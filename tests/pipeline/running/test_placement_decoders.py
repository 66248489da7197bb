"""Who decodes: how a cluster's CPUs are divided between workers and the processes that decode for them."""

from __future__ import annotations

import pytest
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running.placement import Placement, divide


def nodes(*sizes: tuple[int, int]) -> list[dict[str, float]]:
    return [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus} for cpus, gpus in sizes]


@pytest.mark.parametrize(
    ("machines", "workers", "shards", "expected"),
    [
        ([(2, 0)], None, 99, Placement(2, 1, 0.0)),  # without GPUs the workers' threads do
        ([(64, 0), (64, 0)], None, 99, Placement(32, 4, 0.0)),
        ([(1, 1)], None, 99, Placement(1, 1.0, 1.0)),
        ([(2, 1)], None, 99, Placement(1, 1, 1.0, 1, 1)),
        ([(4, 1)], None, 99, Placement(1, 2, 1.0, 1, 2)),
        ([(16, 1)], None, 99, Placement(1, 2, 1.0, 4, 3)),
        ([(32, 4)], None, 99, Placement(4, 2, 1.0, 2, 3)),
        ([(192, 8)], None, 999, Placement(8, 2, 1.0, 7, 3)),
        ([(16, 1)], None, 3, Placement(1, 2, 1.0, 2, 3)),  # a shard each, and one that is about to end
        ([(16, 1)], None, 1, Placement(1, 2, 1.0, 1, 3)),
        ([(8, 1), (64, 0), (64, 0)], None, 99, Placement(1, 2, 1.0, 8, 3)),  # machines without a GPU decode too
        ([(8, 1), (8, 1), (12, 0)], None, 99, Placement(2, 2, 1.0, 4, 3)),
    ],
)
def test_workers_with_a_gpu_get_what_cpus_there_are(
    machines: list[tuple[int, int]], workers: int | None, shards: int, expected: Placement
) -> None:
    found = divide(nodes(*machines), workers, None, shards, None)
    assert found == expected
    cpus = sum(size for size, _ in machines)
    assert found.workers * (found.cpus + found.decoders * found.decoder_cpus) <= cpus


@pytest.mark.parametrize(
    ("machines", "workers", "asked", "expected"),
    [
        ([(2, 0)], 1, 1, Placement(1, 1, 0.0, 1, 1)),
        ([(8, 0)], 2, 2, Placement(2, 2, 0.0, 1, 2)),
        ([(8, 0)], 2, 3, Placement(2, 2, 0.0, 2, 1)),  # as many for each
        ([(16, 1)], None, 12, Placement(1, 2, 1.0, 12, 1)),
        ([(16, 1)], None, 0, Placement(1, 8.0, 1.0)),
    ],
)
def test_so_many_as_are_asked_for(
    machines: list[tuple[int, int]], workers: int | None, asked: int, expected: Placement
) -> None:
    assert divide(nodes(*machines), workers, None, 99, asked) == expected


@pytest.mark.parametrize(("machines", "asked"), [([(2, 0)], 1), ([(2, 1)], 2), ([(16, 1)], 15)])
def test_more_than_there_are_cpus_for_is_refused(machines: list[tuple[int, int]], asked: int) -> None:
    with pytest.raises(UserError, match=f"--decode-workers {asked}: the cluster has CPUs for "):
        divide(nodes(*machines), None, None, 99, asked)


@pytest.mark.parametrize(("decoders", "shards"), [(0, 2), (1, 2), (4, 5)])
def test_every_process_has_a_shard_while_one_ends(decoders: int, shards: int) -> None:
    assert Placement(1, 1, 1.0, decoders, 1).in_flight == shards
