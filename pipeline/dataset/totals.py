"""Counts and times over many parts, and where the time went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..records import ShardStats

# `decode` is the CPUs' part of it. `engines` decode JPEGs on GPUs, `resize` follows them there; zero on other machines.
STAGES = ("read", "decode", "engines", "resize", "encode", "write", "commit")


@dataclass
class Totals:
    """Counts over some parts, and seconds by stage, all workers together.

    seconds: at work. Besides the stages' there are `total`, the shards' time; `worker`, the workers'; `gpu`, in which
    their GPUs computed; `cores`, the core-seconds of them and of their decode processes. starved: waiting for input.
    blocked: waiting for room for output.
    """

    shards: int = 0
    rows: int = 0
    embedded: int = 0
    part_bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    half_pairs: Counter[str] = field(default_factory=Counter)  # embedded rows that lack a side: `caption: no file`
    notes: Counter[str] = field(default_factory=Counter)  # embedded rows by remark
    seconds: Counter[str] = field(default_factory=Counter)
    starved: Counter[str] = field(default_factory=Counter)
    blocked: Counter[str] = field(default_factory=Counter)
    watched: float = 0.0  # seconds of `total` of the parts that recorded waiting
    flop: float = 0.0  # of the models, where the device's peak is known
    possible: float = 0.0  # FLOP at that peak, in the time in which the encoder was at work
    affordable: float = 0.0  # FLOP at that peak, in all of the workers' time

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{name: _sum(mine, getattr(other, name)) for name, mine in vars(self).items()})

    def add(self, stats: ShardStats) -> None:
        self.shards += 1
        self.rows += stats.rows
        self.embedded += stats.embedded
        self.part_bytes += stats.part_bytes
        self.failures.update(stats.failures)
        self.half_pairs.update(stats.half_pairs)
        self.notes.update(stats.notes)
        self.seconds.update({"worker": stats.seconds.get("total", 0.0), **stats.seconds})
        self.starved.update(stats.starved)
        self.blocked.update(stats.blocked)
        self.watched += stats.seconds.get("total", 0.0) if stats.blocked else 0.0
        if stats.peak:
            self.flop += stats.flop
            self.possible += stats.peak * stats.seconds.get("encode", 0.0)  # an empty shard has none
            self.affordable += stats.peak * stats.seconds.get("worker", 0.0)

    @property
    def failed(self) -> int:
        return self.rows - self.embedded

    def as_json(self) -> dict[str, Any]:
        return {
            "shards": self.shards,
            "rows": self.rows,
            "embedded": self.embedded,
            "failed": self.failed,
            "failures": dict(self.failures.most_common()),
            "half_pairs": dict(self.half_pairs.most_common()),
            "notes": dict(self.notes.most_common()),
            "part_bytes": self.part_bytes,
            "seconds": _rounded(self.seconds),
            "starved": _rounded(self.starved),
            "blocked": _rounded(self.blocked),
            "utilisation": {stage: round(share, 3) for stage, share in self.utilisation.items()},
            "bottleneck": self.bottleneck,
            "flop_utilisation": self.flop_utilisation and round(self.flop_utilisation, 4),
            "mfu": self.mfu and round(self.mfu, 4),
            "waited_for": {stage: round(share, 3) for stage, share in self.waited_for.items()},
            "cores_a_worker": round(self.cores_a_worker, 2),
        }

    @property
    def bottleneck(self) -> str | None:
        """The stage that waited least for others; where waiting was not recorded, the busiest."""
        active = {stage: self._active(stage) for stage in STAGES if self.seconds[stage]}
        return max(active, key=lambda stage: active[stage]) if active else None

    @property
    def utilisation(self) -> dict[str, float]:
        """Share of the workers' time that each stage was at work; they overlap, so these add up to more than one."""
        total = self.seconds["worker"]
        return {stage: self.seconds[stage] / total for stage in STAGES} if total else {}

    @property
    def flop_utilisation(self) -> float | None:
        """The models' FLOP over what the devices could have done while the encoders were at work; see flops.py."""
        return self.flop / self.possible if self.possible else None

    @property
    def mfu(self) -> float | None:
        """Model FLOP utilisation: the models' FLOP over what the devices could have done in the workers' time."""
        return self.flop / self.affordable if self.affordable else None

    @property
    def cores_a_worker(self) -> float:
        """How many cores a worker and its decode processes kept busy on average."""
        return self.seconds["cores"] / self.seconds["worker"] if self.seconds["worker"] else 0.0

    @property
    def on_gpus(self) -> bool:
        return self.seconds["gpu"] > 0

    @property
    def waited_for(self) -> dict[str, float]:
        """Share of the workers' time in which the GPU, or else the encoder, had nothing to do, by the stage that it
        waited for; `encode` is the GPU's wait for batches that the encoder puts together. Empty where unknown.

        A wait for decoded images is the decoder's as long as that was at work, and the reader's while the decoder
        itself waited to be given something.
        """
        worker, starved = float(self.seconds["worker"]), float(self.starved["encode"])
        if not worker or not starved + self.blocked["encode"]:
            return {}
        waits: dict[str, float] = {"write": float(self.blocked["encode"])}
        for stage in ("engines", "decode"):
            active = self._active(stage)
            waits[stage] = starved * active / (active + self.starved[stage]) if active else 0.0
            starved -= waits[stage]
        waits["read"] = starved
        busy = self.seconds["encode"] + self.seconds["resize"]
        idle, total = max(0.0, 1 - busy / worker), sum(waits.values())
        shares = {stage: idle * waits[stage] / total for stage in STAGES if waits.get(stage)}
        if self.on_gpus and (launching := min(self.seconds["encode"], worker) - self.seconds["gpu"]) > 0:
            shares["encode"] = launching / worker
        return shares

    def _active(self, stage: str) -> float:
        """Seconds of the shards' time in which the stage was at work; not divided among shards as `seconds` is."""
        if stage in self.starved or stage in self.blocked:
            return max(0.0, self.watched - self.starved[stage] - self.blocked[stage])
        return self.seconds[stage]


def _sum(one: Any, other: Any) -> Any:
    if not isinstance(one, Counter):
        return one + other
    both = Counter(one)
    both.update(other)  # adding them would leave out what is zero
    return both


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in seconds.items()}
