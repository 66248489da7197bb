"""Who works in a run: from a job and a cluster to workers, and to processes that read for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import UserError
from ..job.embed import EmbedJob
from .autoscaler import Demand
from .backlog import Limits
from .closing import RunPlan
from .cluster import place, reader_seats, room
from .placement import Placement
from .readers import Readers
from .run_options import RunOptions
from .until import Until

if TYPE_CHECKING:
    from ..embedding.settings import DatasetSettings
    from .worker import WorkerSettings

_POLL = 2.0  # seconds between two looks at a cluster that may grow


def find_placement(job: EmbedJob, shards: int) -> Placement:
    """Where workers go, as soon as there is room for one; UserError where there is none in time."""
    end = time.monotonic() + job.wait_for_machines
    while True:
        try:
            return place(job.workers, job.gpus_per_worker, shards, job.decode_workers)
        except UserError:
            if time.monotonic() >= end:
                raise
        time.sleep(min(_POLL, job.wait_for_machines))


def run_options(job: EmbedJob, until: Until, shards: int, placement: Placement, demand: Demand) -> RunOptions:
    at_first, most = room(placement), min(shards, job.workers or shards)

    def workers() -> int:
        """More of the same size where there is more room than at first; none where all machines leave."""
        now = room(placement)
        return min(placement.workers + now - at_first, most) if now else 0

    patience = max(RunOptions.patience, job.wait_for_machines)
    return RunOptions(Limits(deadline=job.shard_deadline), until, workers, patience, need=demand.need_workers)


def worker_factory(job: EmbedJob, run: RunPlan, settings: DatasetSettings, placement: Placement) -> WorkerSettings:
    from .broadcast import with_weights  # with torch, which takes a second: what is missing is refused before
    from .worker import WorkerSettings

    is_growing = job.wait_for_machines > 0 and placement.workers < min(job.workers or 0, len(run.todo))
    return WorkerSettings(job, with_weights(settings, is_growing), run.output, placement)


def reader_pool(factory: WorkerSettings, demand: Demand) -> Callable[[], Readers]:
    from .reader_pool import ReaderPool  # with torch, as above

    placement = factory.placement
    return partial(ReaderPool, factory.reading, placement, partial(reader_seats, placement), demand)
