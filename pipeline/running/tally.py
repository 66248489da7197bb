"""What a run has seen so far, and whether that is too much."""

from __future__ import annotations

import time

from ..dataset.forgotten import REASON
from ..dataset.summary import QUARANTINE, Summary
from ..dataset.totals import Totals
from ..errors import TooManyFailuresError
from ..job.embed import EmbedJob
from .events import (
    DoneElsewhere,
    Event,
    Rows,
    ShardDone,
    ShardFailed,
    Stopping,
    WorkersAdded,
    WorkersReleased,
    WorkersStarted,
)

_FEW = 1000  # samples, before which a share of failures says nothing


class Tally:
    """Adds up the events of one run."""

    def __init__(self, job: EmbedJob) -> None:
        self._job = job
        self.failed: dict[str, str] = {}  # URL -> reason
        self.totals = Totals()
        self.workers = 0  # at most at once
        self._workers = 0  # now
        self.over: TooManyFailuresError | None = None  # why the run was broken off
        self.elsewhere = 0  # shards that other runs into the same output have done
        self.stopped = False  # whether the run's caller stopped it
        self.start_up: dict[str, float] = {}  # seconds by stage, from the plan to the first rows
        self._ready: float | None = None
        self._ended: float | None = None
        self._rows = self._failed_rows = 0

    @property
    def price_per_hour(self) -> float | None:
        """Of a worker."""
        return self._job.prices.worker

    @property
    def busy_seconds(self) -> float:
        """From the first worker's start to the last shard's end."""
        return self._ended - self._ready if self._ended and self._ready else 0.0

    def see(self, event: Event) -> None:
        """TooManyFailuresError as soon as more samples have failed than the job allows."""
        if isinstance(event, WorkersStarted):
            self.workers = self._workers = event.workers
            self._ready = time.monotonic()
            self.start_up.update(event.seconds)
        elif isinstance(event, WorkersAdded):
            self._workers += event.workers
            self.workers = max(self.workers, self._workers)
        elif isinstance(event, WorkersReleased):
            self._workers -= event.workers
        elif isinstance(event, ShardDone):
            self._has_rows()
            self.totals.add(event.stats)
            self._ended = time.monotonic()
        elif isinstance(event, ShardFailed):
            self.failed[event.shard.url] = event.reason
        elif isinstance(event, DoneElsewhere):
            self.elsewhere += event.shards
        elif isinstance(event, Stopping):
            self.stopped = True
        elif isinstance(event, Rows):
            self._has_rows()
            self._rows += event.embedded + event.failed
            self._failed_rows += event.failed
            if self._rows > _FEW and self._failed_rows > self._job.max_failed_samples * self._rows:
                why = f": {top_reasons(self.totals)}" if self.totals.failures else ""
                raise TooManyFailuresError(
                    f"{self._failed_rows:,} of {self._rows:,} samples failed{why}. Stopped; allow more with "
                    "--max-failed-samples"
                )

    def _has_rows(self) -> None:
        """The first ones, or a shard that was done before its worker told of them."""
        if self._ready:
            self.start_up.setdefault("first_rows", time.monotonic() - self._ready)

    def judge(self, summary: Summary) -> None:
        """TooManyFailuresError when, at the end, more has failed than the job allows."""
        dataset = summary.dataset
        if self.over:
            raise TooManyFailuresError(str(self.over), summary)
        if len(self.failed) > self._job.max_failed_shards:
            url, reason = next(iter(self.failed.items()))
            first = reason if reason.startswith(url) else f"{url}: {reason}"
            rest = f" (and {len(self.failed) - 1} more; see {QUARANTINE})" if len(self.failed) > 1 else ""
            raise TooManyFailuresError(f"{len(self.failed)} of {summary.planned} shards failed: {first}{rest}", summary)
        failed = dataset.failed - dataset.failures[REASON]  # what was purged is no failure
        if dataset.rows and failed > self._job.max_failed_samples * dataset.rows:
            share = f"{failed:,} of {dataset.rows:,} samples failed"
            raise TooManyFailuresError(f"{share}: {top_reasons(dataset)}", summary)


def top_reasons(totals: Totals) -> str:
    return "; ".join(f"{reason} ({count:,})" for reason, count in totals.failures.most_common(3))
