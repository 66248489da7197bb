"""What a cluster has, and which one is meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running import cluster as module
from clipmill.pipeline.running.cluster import check_answer, connected, gpu_kinds, place
from clipmill.pipeline.running.placement import Placement


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, float]]]:
    """What the nodes of a cluster have; a test says."""
    has: list[dict[str, float]] = []

    def total() -> dict[str, float]:
        return {name: sum(node.get(name, 0) for node in has) for name in {name for node in has for name in node}}

    monkeypatch.setattr(module.ray, "cluster_resources", total)
    monkeypatch.setattr(module.ray, "nodes", lambda: [named(i, node) for i, node in enumerate(has)])
    yield has


def named(number: int, resources: dict[str, float]) -> dict[str, Any]:
    return {"NodeID": str(number), "Alive": True, "Resources": resources}


@pytest.mark.parametrize(
    ("cluster_nodes", "asked", "expected"),
    [
        # one machine without GPUs: (CPUs,), (workers, gpus per worker, shards)
        ([(2, 0)], (None, None, 9), Placement(2, 1, 0.0)),
        ([(2, 0)], (None, None, 1), Placement(1, 2, 0.0)),
        ([(2, 0)], (None, None, 0), Placement(1, 2, 0.0)),
        ([(2, 0)], (1, None, 9), Placement(1, 2, 0.0)),
        ([(2, 0)], (5, None, 9), Placement(2, 1, 0.0)),
        ([(8, 0)], (None, None, 99), Placement(8, 1, 0.0)),
        ([(16, 0)], (None, None, 99), Placement(8, 2, 0.0)),
        ([(32, 0)], (None, None, 99), Placement(8, 4, 0.0)),
        ([(64, 0)], (None, None, 99), Placement(16, 4, 0.0)),
        ([(32, 0)], (3, None, 99), Placement(3, 10, 0.0)),
        # with GPUs, each worker gets one, and half of its share of the CPUs
        ([(16, 1)], (None, None, 99), Placement(1, 8.0, 1.0)),
        ([(32, 4)], (None, None, 99), Placement(4, 4.0, 1.0)),
        ([(32, 4)], (None, None, 2), Placement(2, 8.0, 1.0)),
        ([(32, 4)], (9, None, 99), Placement(4, 4.0, 1.0)),
        ([(32, 1)], (None, 0.25, 99), Placement(4, 4.0, 0.25)),
        ([(32, 4)], (None, 0.0, 99), Placement(8, 4, 0.0)),
        # many nodes: no worker is larger than a node
        ([(8, 0)] * 100, (None, None, 2), Placement(2, 8, 0.0)),
        ([(8, 0)] * 2, (3, None, 99), Placement(3, 4, 0.0)),
        ([(8, 1), (64, 0), (64, 0)], (None, None, 99), Placement(1, 4.0, 1.0)),
        ([(8, 1)] * 4, (None, None, 99), Placement(4, 4.0, 1.0)),
        ([(32, 3)] * 2, (None, 2, 99), Placement(2, 16.0, 2)),  # nor does one span two
        ([(8, 1)] * 2, (None, 0.4, 99), Placement(4, 2.0, 0.4)),
        ([(4, 8)], (None, None, 99), Placement(4, 1.0, 1.0)),
    ],
)
def test_workers_are_placed_so_that_they_fit(
    nodes: list[dict[str, float]], cluster_nodes: list[tuple[int, int]], asked: tuple[Any, ...], expected: Placement
) -> None:
    nodes += [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus} for cpus, gpus in cluster_nodes]
    assert place(*asked) == expected


def test_gpus_without_cpus_are_refused(nodes: list[dict[str, float]]) -> None:
    nodes += [{"CPU": 8}, {"CPU": 0, "GPU": 1}]
    with pytest.raises(UserError, match="have no CPU for workers"):
        place(None, None, 9)


@pytest.mark.parametrize("machine", [{"CPU": 0, "GPU": 1}, {"CPU": 0.5}])
def test_machines_without_a_whole_cpu_are_refused(machine: dict[str, float], nodes: list[dict[str, float]]) -> None:
    nodes.append(machine)
    with pytest.raises(UserError, match="no machine of the cluster has a whole CPU for a worker; where it grows, name"):
        place(None, 0.0, 9)


def test_gpus_that_are_not_there_are_refused(nodes: list[dict[str, float]]) -> None:
    nodes.append({"CPU": 8})
    with pytest.raises(UserError, match=r"--gpus-per-worker 0\.5: the cluster has no GPU"):
        place(None, 0.5, 9)


@pytest.mark.parametrize("address", ["http://head:8265", "https://head"])
def test_the_address_of_a_dashboard_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(UserError, match=r"a Ray dashboard.* a run wants the cluster's own: HOST:6379"):
        check_answer(address)
    monkeypatch.setenv("RAY_ADDRESS", address)  # which Ray's own commands take
    with pytest.raises(UserError, match="a Ray dashboard"), connected():
        pass


def test_one_that_is_connected_already_is_used_and_left(cluster: None) -> None:
    with connected("no.such.host:1"):
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()


def test_kinds_of_gpus_are_those_of_machines_that_have_some(nodes: list[dict[str, float]]) -> None:
    nodes += [{"CPU": 4.0, "GPU": 1.0, "accelerator_type:H100": 1.0}, {"CPU": 2.0, "accelerator_type:TPU-V4": 1.0}]
    nodes += [{"CPU": 4.0, "GPU": 1.0, "accelerator_type:A100": 1.0}, {"CPU": 4.0, "GPU": 8.0}]
    assert gpu_kinds() == {"H100", "A100"}
