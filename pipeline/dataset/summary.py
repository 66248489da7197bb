"""What a run has done, and what its dataset holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import OutputError
from ..job.readable import Result
from .layout import OWN, SUCCESS
from .ledger import ledger
from .manifest import Manifest
from .manifest_files import MANY, ManifestReader
from .output import Output
from .plan import count_planned, planned_shards, read_plan
from .runs import AtWork, at_work
from .totals import Totals

SUMMARY = f"{OWN}/summary.json"
QUARANTINE = f"{OWN}/failed_shards.json"


@dataclass(frozen=True, repr=False)
class Summary(Result):
    """The result of `embed`."""

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
    cost: float | None = None  # of this run, start-up included; None where no prices were given
    elsewhere: int = 0  # shards that other runs did while this one was at work
    mended: int | None = None  # rows that failed before and are embedded now; None unless failed ones were retried
    left: int = 0  # shards that this run did not get to; run again to embed them
    start_up: Mapping[str, float] = field(default_factory=dict)  # seconds by stage; the first ones overlap

    def __repr__(self) -> str:
        dataset = self.dataset
        failed = f", {len(self.failed_shards):,} failed shards" if self.failed_shards else ""
        return (
            f"Summary(out={self.out!r}: {dataset.rows:,} rows = {dataset.embedded:,} embedded + {dataset.failed:,} "
            f"failed, {dataset.shards:,} of {self.planned:,} shards{failed}, {self.seconds:,.1f} s)"
        )

    @property
    def complete(self) -> bool:
        return self.dataset.shards == self.planned and not self.left and not self.failed_shards

    @property
    def cost_per_million(self) -> float | None:
        return None if self.cost is None or not self.run.rows else self.cost / self.run.rows * 1e6

    @property
    def seconds_left(self) -> float | None:
        """That the shards which are left would take at the pace of this run; None where it did none."""
        return self.busy_seconds / self.run.shards * self.left if self.run.shards else None

    @property
    def cost_left(self) -> float | None:
        """The same for what they would cost."""
        return None if self.cost is None or not self.run.shards else self.cost / self.run.shards * self.left

    @property
    def samples_per_second(self) -> float:
        return self.run.rows / self.busy_seconds if self.busy_seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "out": self.out,
            "complete": self.complete,
            "planned_shards": self.planned,
            "shards_done_before": self.done_before,
            "shards_done_by_other_runs": self.elsewhere,
            "mended_rows": self.mended,
            "seconds": round(self.seconds, 3),
            "start_up": {stage: round(seconds, 3) for stage, seconds in self.start_up.items()},
            "samples_per_second": round(self.samples_per_second, 2),
            "workers": self.workers,
            "price_per_hour": self.price_per_hour,
            "cost": self.cost,
            "cost_per_million_pairs": self.cost_per_million,
            "shards_left": self.left,
            "seconds_left": self.seconds_left and round(self.seconds_left, 1),
            "cost_left": self.cost_left,
            "run": self.run.as_json(),
            "dataset": self.dataset.as_json(),
            "failed_shards": self.failed_shards,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True)
class Status(Result):
    """The result of `status`, read from the storage alone."""

    out: str
    planned: int
    dataset: Totals
    failed_shards: dict[str, str]
    fingerprint: str
    model: str
    complete: bool
    price_per_hour: float | None = None  # of a worker, as given to the last run
    last_cost_per_million: float | None = None  # of the last run, whatever its prices were of
    at_work: tuple[AtWork, ...] = ()  # runs
    exact: bool = True  # the parts were counted; else the manifest tells, which is half a minute behind a run

    @property
    def cost_per_million(self) -> float | None:
        """Of the workers' time for the committed shards; start-up and failures come on top. Where machines have prices
        and workers have none, what the last run said."""
        if self.price_per_hour is None or not self.dataset.rows:
            return self.last_cost_per_million
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
            "at_work": [asdict(run) for run in self.at_work],
            "exact": self.exact,
        }


def status(output: Output, exact: bool = False) -> Status | None:
    """A dataset's status; None where none was begun. exact: count the parts, however many there are."""
    return Watch(output, exact).look()


class Watch:
    """Looks at a dataset again and again, from anywhere: a later look reads only what has been committed since.

    Of many parts the manifest tells: listing a million takes a thousand requests, and minutes.
    """

    def __init__(self, output: Output, exact: bool = False) -> None:
        self.output, self._exact = output, exact
        self._manifest, self._seen = ManifestReader(output), Manifest.of()

    def look(self) -> Status | None:
        """The status now; None where no dataset was begun."""
        plan = read_plan(self.output)
        if plan is None:
            return None
        planned, ended = count_planned(self.output), self.output.read(SUCCESS) is not None
        exact = self._exact or planned < MANY
        if exact:
            self._seen = ledger(self.output, planned_shards(self.output), Manifest.of(), self._seen)
        else:
            self._seen = self._manifest.read().latest()
        last = _read_json(self.output, SUMMARY)
        return Status(
            out=self.output.url,
            planned=planned,
            dataset=self._seen.totals,
            failed_shards=quarantined(self.output),
            fingerprint=plan.digest,
            model=f"{plan.model} ({plan.weights}), {plan.precision}",
            complete=ended and len(self._seen) == planned,
            price_per_hour=last.get("price_per_hour"),
            last_cost_per_million=last.get("cost_per_million_pairs"),
            at_work=tuple(at_work(self.output)),
            exact=exact,
        )


def quarantined(output: Output) -> dict[str, str]:
    """Shards that could not be embedded in the last run -> reason."""
    return _read_json(output, QUARANTINE)


def _read_json(output: Output, name: str) -> dict[str, Any]:
    """Empty where there is no such file. OutputError for a damaged one."""
    content = output.read(name)
    try:
        values: dict[str, Any] = json.loads(content) if content else {}
    except ValueError as error:
        raise OutputError(f"{output.url}/{name} is damaged: delete it, and a run writes it again") from error
    return values
