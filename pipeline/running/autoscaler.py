"""What a run asks of its cluster's autoscaler, where there is one. It does not see the need by itself: workers, and
processes that read, are made only where there is room."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

Bundle = dict[str, float]  # resources that have to be on one machine


class Demand:
    """Bundles of one run, by who needs them. The autoscaler is told whenever they change."""

    def __init__(self, tell: Callable[[list[Bundle]], None], worker: Bundle | None = None, most: int = 0) -> None:
        """worker: what one needs. most: workers that are ever asked for."""
        self._tell, self._worker, self._most = tell, dict(worker or {}), most
        self._workers = 0
        self._bundles: dict[str, list[Bundle]] = {}

    def need(self, who: str, bundles: Sequence[Bundle]) -> None:
        """All that `who` needs from now on."""
        if self._bundles.get(who, []) != list(bundles):
            self._bundles[who] = list(bundles)
            self._tell([bundle for needed in self._bundles.values() for bundle in needed])

    def need_workers(self, count: int) -> None:
        """So many have something to do from now on."""
        count = min(count, self._most)
        if count != self._workers:
            self._workers = count
            self.need("workers", [self._worker] * count)


@contextmanager
def demanded(workers: int | None, gpus_per_worker: float | None) -> Generator[Demand, None, None]:
    """Room for so many workers, until the context is left. Where their number is the cluster's affair, nothing is asked
    for."""
    worker = {"GPU": gpus_per_worker} if gpus_per_worker else {"CPU": 1.0}
    demand = Demand(_tell if workers else lambda _: None, worker, workers or 0)
    demand.need_workers(workers or 0)
    try:
        yield demand
    finally:
        if workers:
            with suppress(Exception):
                _tell([])


def _tell(bundles: list[Bundle]) -> None:
    if ray.util.client.ray.is_connected():  # over ray:// only the cluster's own processes can ask
        request: Any = ray.remote(request_resources)
        ray.get(request.options(num_cpus=0).remote(bundles=bundles))
    else:
        request_resources(bundles=bundles)
