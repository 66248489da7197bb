"""A run's counters for Prometheus, through Ray: each of Ray's machines serves what its processes count.

The names here, with `ray_` before them, are those that infra/grafana shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray.util.metrics import Counter, Gauge

from .events import (
    Event,
    Planned,
    ReadersChanged,
    Rows,
    ShardDone,
    ShardFailed,
    ShardRetried,
    WorkerLost,
    WorkersAdded,
    WorkersStarted,
)

_COUNTERS = {
    "clipmill_rows": ("Rows of committed parts, by outcome: embedded or failed.", ("outcome",)),
    "clipmill_row_failures": ("Failed rows of committed parts, by reason.", ("reason",)),
    "clipmill_half_pairs": ("Embedded rows that lack an image or a caption, by side and cause.", ("cause",)),
    "clipmill_stage_seconds": (
        "Seconds that each stage was busy, over all workers; also worker, gpu and cores (core-seconds).",
        ("stage",),
    ),
    "clipmill_flop": ("Floating-point operations of the models for what was embedded, where the peak is known.", ()),
    "clipmill_flop_affordable": ("Those that the devices could have done at their peak in the workers' time.", ()),
    "clipmill_part_bytes": ("Bytes of committed parts.", ()),
    "clipmill_shards": ("Shards that ended, by outcome: done or failed.", ("outcome",)),
    "clipmill_shard_retries": ("Attempts at shards that failed and were made again.", ()),
    "clipmill_workers_lost": ("Workers that died and were replaced.", ()),
}
_GAUGES = {
    "clipmill_shards_planned": "Shards of this run.",
    "clipmill_shards_in_flight": "Shards in workers' hands.",
    "clipmill_workers": "Workers.",
    "clipmill_readers": "Processes that read and decode for workers with GPUs.",
}
NAMES = (*_COUNTERS, *_GAUGES)


@dataclass
class Metrics:
    """Counts the events of one run. To be made when Ray is connected, or it counts for nobody. out: the dataset's URL,
    a label of all. Ray sends what was counted every ten seconds and at the end, so that a scrape may be that late."""

    out: str
    _known: dict[str, Any] = field(default_factory=dict)
    _now: dict[str, float] = field(default_factory=dict)  # of gauges
    _workers: int = 0

    def see(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._now["clipmill_shards_planned"] = event.todo
        elif isinstance(event, (WorkersStarted, WorkersAdded)):
            self._workers += event.workers
            self._now["clipmill_workers"] = self._workers
        elif isinstance(event, ReadersChanged):
            self._now["clipmill_readers"] = event.readers
        elif isinstance(event, Rows):
            self._now["clipmill_shards_in_flight"] = event.in_flight
        elif isinstance(event, ShardDone):
            self._done(event)
        elif isinstance(event, ShardFailed):
            self._count("clipmill_shards", 1, outcome="failed")
        elif isinstance(event, ShardRetried):
            self._count("clipmill_shard_retries", 1)
        elif isinstance(event, WorkerLost):
            self._count("clipmill_workers_lost", 1)
        for name, value in self._now.items():  # all again: Ray forgets a gauge that is not set for twenty seconds
            self._set(name, value)

    def _done(self, event: ShardDone) -> None:
        stats = event.stats
        self._count("clipmill_shards", 1, outcome="done")
        self._count("clipmill_rows", stats.embedded, outcome="embedded")
        self._count("clipmill_rows", stats.failed, outcome="failed")
        self._count("clipmill_part_bytes", stats.part_bytes)
        if stats.peak:
            self._count("clipmill_flop", stats.flop)
            self._count("clipmill_flop_affordable", stats.peak * stats.seconds.get("worker", 0.0))
        for reason, rows in stats.failures.items():
            self._count("clipmill_row_failures", rows, reason=reason)
        for cause, rows in stats.half_pairs.items():
            self._count("clipmill_half_pairs", rows, cause=cause)
        for stage, seconds in stats.seconds.items():
            self._count("clipmill_stage_seconds", seconds, stage=stage)

    def _count(self, name: str, by: float, **labels: str) -> None:
        if by <= 0:  # Ray takes no less
            return
        if name not in self._known:
            help_, keys = _COUNTERS[name]
            self._known[name] = Counter(name, help_, ("out", *keys))
        self._known[name].inc(by, {"out": self.out, **labels})

    def _set(self, name: str, value: float) -> None:
        if name not in self._known:
            self._known[name] = Gauge(name, _GAUGES[name], ("out",))
        self._known[name].set(value, {"out": self.out})
