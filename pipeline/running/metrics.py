"""A run's counters for Prometheus, through Ray: each of Ray's machines serves what its processes count.

The names here, with `ray_` before them, are those that infra/grafana shows, and that infra/prometheus watches.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.util.metrics import Counter, Gauge

from .events import (
    DoneElsewhere,
    Event,
    MachineLeftOut,
    Planned,
    ReadersChanged,
    Rows,
    ShardDone,
    ShardFailed,
    ShardRetried,
    WorkerLost,
    WorkerReplaced,
    WorkersAdded,
    WorkersReleased,
    WorkersStarted,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_BEAT = 10.0  # seconds between two settings of the gauges: Ray forgets one that is not set for twenty
_LOOK = 5.0  # seconds between two looks at which machines there are
_MOST_MACHINES = 2000  # with labels of their own, over weeks of machines that come and go

COUNTERS = {
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
    "clipmill_workers_replaced": ("Workers that failed or went silent, and were replaced.", ()),
    "clipmill_machines_left_out": ("Machines that get no more workers, as theirs fail.", ()),
    "clipmill_machine_rows": ("Rows of committed parts, by machine.", ("machine",)),
    "clipmill_machine_failures": ("Attempts at shards that failed, by machine.", ("machine",)),
    "clipmill_machine_seconds": ("Seconds of workers and of their GPUs at work, by machine.", ("machine", "stage")),
}
GAUGES = {
    "clipmill_shards_planned": "Shards of this run.",
    "clipmill_shards_in_flight": "Shards in workers' hands.",
    "clipmill_workers": "Workers.",
    "clipmill_readers": "Processes that read and decode for workers with GPUs.",
    "clipmill_quiet_seconds": "Since the run's last row, or since its beginning.",
}


@dataclass
class Metrics:
    """Counts the events of one run. To be entered when Ray is connected, or it counts for nobody. out: the dataset's
    URL, a label of all. Ray sends what was counted every ten seconds and at the end, so that a scrape may be that late.
    """

    out: str
    _known: dict[str, Any] = field(default_factory=dict)
    _now: dict[str, float] = field(default_factory=dict)  # of gauges
    _workers: int = 0
    _last_rows: float = field(default_factory=time.monotonic)
    _machines: _Machines = field(default_factory=lambda: _Machines())
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, daemon=True, name="metrics").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _beat(self) -> None:
        """A run of which nothing is heard is what somebody wants to be told of."""
        while not self._ended.wait(_BEAT):
            self._set_gauges()

    def see(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._now["clipmill_shards_planned"] = event.todo
        elif isinstance(event, WorkersStarted):
            self._has_workers(event.workers)
        elif isinstance(event, WorkersAdded):
            self._has_workers(self._workers + event.workers)
        elif isinstance(event, WorkersReleased):
            self._has_workers(self._workers - event.workers)
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
        elif isinstance(event, WorkerReplaced):
            self._count("clipmill_workers_replaced", 1)
        elif isinstance(event, MachineLeftOut):
            self._count("clipmill_machines_left_out", 1)
        if isinstance(event, (Rows, ShardDone, DoneElsewhere)):
            self._last_rows = time.monotonic()
        if isinstance(event, (ShardFailed, ShardRetried)) and event.machine:
            self._count("clipmill_machine_failures", 1, machine=self._machines.name(event.machine))
        self._set_gauges()

    def _has_workers(self, workers: int) -> None:
        self._workers = workers
        self._now["clipmill_workers"] = max(workers, 0)

    def _set_gauges(self) -> None:
        self._now["clipmill_quiet_seconds"] = time.monotonic() - self._last_rows
        for name, value in list(self._now.items()):  # all again
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
        if event.machine:
            machine = self._machines.name(event.machine)
            self._count("clipmill_machine_rows", stats.rows, machine=machine)
            for stage in ("worker", "gpu"):
                self._count("clipmill_machine_seconds", stats.seconds.get(stage, 0.0), machine=machine, stage=stage)

    def _count(self, name: str, by: float, **labels: str) -> None:
        if by <= 0:  # Ray takes no less
            return
        if name not in self._known:
            help_, keys = COUNTERS[name]
            self._known[name] = Counter(name, help_, ("out", *keys))
        self._known[name].inc(by, {"out": self.out, **labels})

    def _set(self, name: str, value: float) -> None:
        if name not in self._known:
            self._known[name] = Gauge(name, GAUGES[name], ("out",))
        self._known[name].set(value, {"out": self.out})


@dataclass
class _Machines:
    """What people call the machines that Ray has numbers for: by their addresses, as other metrics do."""

    _addresses: dict[str, str] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _looked: float = float("-inf")

    def name(self, machine: str) -> str:
        """`other` beyond the most that metrics should have."""
        if machine not in self._addresses and time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self._addresses |= {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        name = self._addresses.get(machine, machine[:12])
        if name in self._told or len(self._told) < _MOST_MACHINES:
            self._told.add(name)
            return name
        return "other"
