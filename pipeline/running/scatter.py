"""The steps after embedding, spread over a cluster: one function over many items. Their only use of Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from ..errors import InfrastructureError
from ..storage.pace import Share, settle
from .cluster import connected
from .worker_handle import own_error

T = TypeVar("T")
R = TypeVar("R")

_TRIES = 3  # of an item whose worker died
_WAITING = 32  # items, at most, that mostly wait for the storage and so are worked on by more threads than cores


def scatter(
    function: Callable[[T], R],
    items: Iterable[T],
    address: str = "auto",
    cpus: float | Callable[[T], float] = 1.0,
    gpus: float = 0.0,
) -> Iterator[tuple[T, R]]:
    """`(item, function(item))` for every item, as they end; a few more are under way than there are cores. cpus: cores
    that an item keeps busy, less than one where it mostly waits for the storage; a function where items differ.

    `auto` without RAY_ADDRESS is threads of this process: starting Ray takes longer than most of these steps. Else the
    function and the items must be picklable. The function may run again for an item whose worker died, and so must be
    content with what it left behind: commit whole files by name. What it raises is raised here.
    """
    if address == "auto" and not os.environ.get("RAY_ADDRESS") and not ray.is_initialized():
        yield from _here(function, items, cpus)
        return
    with connected(address):
        yield from _on_ray(function, items, cpus, gpus)


def _here(function: Callable[[T], R], items: Iterable[T], cpus: float | Callable[[T], float]) -> Iterator[tuple[T, R]]:
    cores, cores_of = os.cpu_count() or 1, _by_item(cpus)
    pools: dict[int, ThreadPoolExecutor] = {}  # by their threads: what waits keeps none from what works
    under_way: dict[Future[R], T] = {}
    try:
        for item in items:
            threads = max(cores, min(_WAITING, int(cores / cores_of(item))))
            if threads not in pools:
                pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="scatter")
            under_way[pools[threads].submit(function, item)] = item
            if len(under_way) > 2 * sum(pools):
                yield from _done(under_way)
        while under_way:
            yield from _done(under_way)
    finally:
        for future in under_way:
            future.cancel()
        for pool in pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


def _by_item(cpus: float | Callable[[T], float]) -> Callable[[T], float]:
    return cpus if callable(cpus) else lambda _: cpus


def _done(under_way: dict[Future[R], T]) -> Iterator[tuple[T, R]]:
    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
        yield under_way.pop(future), future.result()


def _on_ray(
    function: Callable[[T], R], items: Iterable[T], cpus: float | Callable[[T], float], gpus: float
) -> Iterator[tuple[T, R]]:
    there, shared, cores_of = ray.cluster_resources(), ray.put(function), _by_item(cpus)
    gpus = gpus if there.get("GPU") else 0.0

    @ray.remote
    def call(function: Callable[[T], R], item: T, at_once: int) -> R:
        settle(Share(at_once))
        return function(item)

    def begin(item: T) -> tuple[Any, float]:
        """The task, and the share of the cluster that it takes."""
        taken = cores_of(item)
        at_once = max(1, int(there.get("CPU", 1) / taken))
        if gpus:
            at_once = min(at_once, int(there["GPU"] / gpus))
        task: Any = call.options(num_cpus=taken, num_gpus=gpus, max_retries=_TRIES)
        return task.remote(shared, item, at_once), 1 / at_once

    under_way: dict[Any, tuple[T, float]] = {}
    try:
        for item in items:
            reference, share = begin(item)
            under_way[reference] = item, share
            if sum(share for _, share in under_way.values()) > 2:
                yield from _collected(under_way)
        while under_way:
            yield from _collected(under_way)
    finally:
        for reference in under_way:
            ray.cancel(reference)


def _collected(under_way: dict[Any, tuple[T, float]]) -> Iterator[tuple[T, R]]:
    (reference, *_), _ = ray.wait(list(under_way))
    item, _ = under_way.pop(reference)
    try:
        yield item, ray.get(reference)
    except RayTaskError as error:
        raise own_error(error) from error
    except RayError as error:
        raise InfrastructureError(f"a worker failed: {' '.join(str(error).split())}") from error
