"""What a run did, and what a dataset holds: the manifest is one row a committed part."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InfrastructureError
from .output import OWN, Output
from .plan import planned_shards, read_plan
from .records import Shard, ShardStats
from .running.totals import Totals

MANIFEST = f"{OWN}/manifest.parquet"
SUMMARY = f"{OWN}/summary.json"
QUARANTINE = f"{OWN}/failed_shards.json"
SUCCESS = "_SUCCESS"

_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("shard", pa.string()),
        ("rows", pa.int64()),
        ("embedded", pa.int64()),
        ("failures", pa.string()),  # json, by reason
        ("seconds", pa.string()),  # json, by stage
        ("bytes", pa.int64()),
        ("waits", pa.string()),  # json, by kind and stage
        ("flop", pa.float64()),
        ("peak", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Summary:
    """What `embed` returns."""

    out: str
    planned: int  # shards
    done_before: int  # of these, when the run began
    run: Totals  # this run alone
    seconds: float  # of this run, start-up of the workers included
    busy_seconds: float  # of this run, from the first worker's start to the last shard's end
    failed_shards: dict[str, str]  # URL -> reason
    dataset: Totals  # everything committed
    fingerprint: str
    workers: int = 0
    price_per_hour: float | None = None  # of a worker

    @property
    def complete(self) -> bool:
        return self.dataset.shards == self.planned

    @property
    def cost(self) -> float | None:
        """Of this run: all workers from its beginning to its end, start-up included."""
        return None if self.price_per_hour is None else self.price_per_hour * self.workers * self.seconds / 3600

    @property
    def cost_per_million(self) -> float | None:
        return None if self.cost is None or not self.run.rows else self.cost / self.run.rows * 1e6

    @property
    def samples_per_second(self) -> float:
        return self.run.rows / self.busy_seconds if self.busy_seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "out": self.out,
            "complete": self.complete,
            "planned_shards": self.planned,
            "shards_done_before": self.done_before,
            "seconds": round(self.seconds, 3),
            "samples_per_second": round(self.samples_per_second, 2),
            "workers": self.workers,
            "price_per_hour": self.price_per_hour,
            "cost": self.cost,
            "cost_per_million_pairs": self.cost_per_million,
            "run": self.run.as_json(),
            "dataset": self.dataset.as_json(),
            "failed_shards": self.failed_shards,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True)
class Status:
    """What `status` returns, from the storage alone."""

    out: str
    planned: int
    dataset: Totals
    failed_shards: dict[str, str]
    fingerprint: str
    model: str
    complete: bool
    price_per_hour: float | None = None  # of a worker, as the last run was told

    @property
    def cost_per_million(self) -> float | None:
        """By the workers' time for the shards that are committed; start-up and failures come on top."""
        if self.price_per_hour is None or not self.dataset.rows:
            return None
        return self.price_per_hour * self.dataset.seconds["worker"] / 3600 / self.dataset.rows * 1e6

    @property
    def left(self) -> int:
        return max(0, self.planned - self.dataset.shards)

    def as_json(self) -> dict[str, Any]:
        return {
            "out": self.out,
            "complete": self.complete,
            "model": self.model,
            "planned_shards": self.planned,
            "shards_left": self.left,
            "price_per_hour": self.price_per_hour,
            "cost_per_million_pairs": self.cost_per_million,
            "dataset": self.dataset.as_json(),
            "failed_shards": self.failed_shards,
            "fingerprint": self.fingerprint,
        }


def status(output: Output) -> Status | None:
    """How far a dataset is; None where none was begun."""
    return Watch(output).look()


@dataclass
class Watch:
    """Looks at a dataset again and again, from anywhere: a later look reads only what has been committed since."""

    output: Output
    _known: list[ShardStats] = field(default_factory=list)

    def look(self) -> Status | None:
        """None where nothing was begun."""
        plan = read_plan(self.output)
        if plan is None:
            return None
        shards = planned_shards(self.output)
        self._known = ledger(self.output, shards, self._known)
        totals = Totals()
        for stats in self._known:
            totals.add(stats)
        return Status(
            out=self.output.url,
            planned=len(shards),
            dataset=totals,
            failed_shards=quarantined(self.output),
            fingerprint=plan.digest,
            model=f"{plan.model} ({plan.weights}), {plan.precision}",
            complete=self.output.read(SUCCESS) is not None,
            price_per_hour=json.loads(self.output.read(SUMMARY) or b"{}").get("price_per_hour"),
        )


def quarantined(output: Output) -> dict[str, str]:
    """Shards that could not be embedded in the last run -> why."""
    content = output.read(QUARANTINE)
    found: dict[str, str] = json.loads(content) if content else {}
    return found


def ledger(output: Output, shards: Sequence[Shard], fresh: Iterable[ShardStats]) -> list[ShardStats]:
    """The counts of every committed part, in the order of the plan: what this run saw, what the manifest says, and
    the footers of parts in neither (a run was killed before it could write its manifest)."""
    known = {stats.url: stats for stats in _read_manifest(output)}
    known |= {stats.url: stats for stats in fresh}
    parts = output.parts()
    committed = [shard for shard in shards if shard.part_name in parts]
    unknown = [shard for shard in committed if shard.url not in known]
    with ThreadPoolExecutor(16) as pool:
        known |= {stats.url: stats for stats in pool.map(lambda shard: _from_footer(output, shard), unknown)}
    return [known[shard.url] for shard in committed]


def write_manifest(output: Output, stats: Sequence[ShardStats]) -> None:
    rows = [
        {
            "part": Shard(each.url).part_name,
            "shard": each.url,
            "rows": each.rows,
            "embedded": each.embedded,
            "failures": json.dumps(each.failures),
            "seconds": json.dumps(each.seconds),
            "bytes": each.part_bytes,
            "waits": json.dumps({"starved": each.starved, "blocked": each.blocked}),
            "flop": each.flop,
            "peak": each.peak,
        }
        for each in stats
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), file, compression="zstd")
    output.write(MANIFEST, file.getvalue())


def _read_manifest(output: Output) -> list[ShardStats]:
    content = output.read(MANIFEST)
    if content is None:
        return []
    return [
        ShardStats(
            row["shard"],
            row["rows"],
            row["embedded"],
            Counter(json.loads(row["failures"])),
            json.loads(row["seconds"]),
            row["bytes"],
            **json.loads(row.get("waits") or "{}"),  # which manifests of version 0.1 have not, nor what follows
            flop=row.get("flop") or 0.0,
            peak=row.get("peak") or 0.0,
        )
        for row in pq.read_table(io.BytesIO(content)).to_pylist()
    ]


def _from_footer(output: Output, shard: Shard) -> ShardStats:
    with output.open(shard.part_name) as file:
        try:
            metadata = pq.ParquetFile(file).metadata.metadata or {}
            counts = json.loads(metadata[b"clipmill.counts"])
            seconds = json.loads(metadata[b"clipmill.seconds"])
            later = {
                **json.loads(metadata.get(b"clipmill.waits", b"{}")),
                **json.loads(metadata.get(b"clipmill.compute", b"{}")),
            }
        except (KeyError, ValueError, pa.ArrowException) as error:
            raise InfrastructureError(f"{output.url}/{shard.part_name}: not a part of ours; move it away") from error
        size = file.seek(0, io.SEEK_END)
    return ShardStats(
        shard.url, counts["rows"], counts["embedded"], Counter(counts["failures"]), seconds, size, **later
    )
