"""The steps after embedding, spread over a cluster: one function over many items. Their only use of Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Condition
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
_ROUNDED = 1e-6  # of a core
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
    cores = os.cpu_count() or 1
    at_once = _WAITING if callable(cpus) else max(cores, min(_WAITING, int(cores / cpus)))
    free = _Cores(cores)

    def work(item: T) -> R:
        with free.taken(cpus(item) if callable(cpus) else cores / at_once):
            return function(item)

    under_way: dict[Future[R], T] = {}
    with ThreadPoolExecutor(at_once, thread_name_prefix="scatter") as pool:
        try:
            for item in items:
                under_way[pool.submit(work, item)] = item
                if len(under_way) > 2 * at_once:
                    yield from _done(under_way)
            while under_way:
                yield from _done(under_way)
        finally:
            free.close()
            pool.shutdown(wait=True, cancel_futures=True)


class _Cores:
    """Those that are free."""

    def __init__(self, count: int) -> None:
        self._free, self._is_closed, self._changed = float(count), False, Condition()

    def close(self) -> None:
        """Nobody gets any more: who waits for some is called off."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @contextmanager
    def taken(self, cpus: float) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._free > cpus - _ROUNDED)
            if self._is_closed:
                raise CancelledError
            self._free -= cpus
        try:
            yield
        finally:
            with self._changed:
                self._free += cpus
                self._changed.notify_all()


def _done(under_way: dict[Future[R], T]) -> Iterator[tuple[T, R]]:
    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
        yield under_way.pop(future), future.result()


def _on_ray(
    function: Callable[[T], R], items: Iterable[T], cpus: float | Callable[[T], float], gpus: float
) -> Iterator[tuple[T, R]]:
    there = ray.cluster_resources()
    shared, at_once = ray.put(function), max(1, int(there.get("CPU", 1) / (1.0 if callable(cpus) else cpus)))
    gpus = gpus if there.get("GPU") else 0.0
    if gpus:
        at_once = min(at_once, int(there["GPU"] / gpus))

    @ray.remote
    def call(function: Callable[[T], R], item: T) -> R:
        settle(Share(at_once))
        return function(item)

    def begin(item: T) -> Any:
        taken = cpus(item) if callable(cpus) else cpus
        task: Any = call.options(num_cpus=taken, num_gpus=gpus, max_retries=_TRIES)
        return task.remote(shared, item)

    most = 2 * at_once
    under_way: dict[Any, T] = {}
    try:
        for item in items:
            under_way[begin(item)] = item
            if len(under_way) > most:
                yield from _collected(under_way)
        while under_way:
            yield from _collected(under_way)
    finally:
        for reference in under_way:
            ray.cancel(reference)


def _collected(under_way: dict[Any, T]) -> Iterator[tuple[T, R]]:
    (reference, *_), _ = ray.wait(list(under_way))
    item = under_way.pop(reference)
    try:
        yield item, ray.get(reference)
    except RayTaskError as error:
        raise own_error(error) from error
    except RayError as error:
        raise InfrastructureError(f"a worker failed: {' '.join(str(error).split())}") from error
