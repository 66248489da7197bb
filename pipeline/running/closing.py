"""The end of a run: the manifest, the summary and, when nothing is missing, the mark of success."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ..dataset.layout import SUCCESS
from ..dataset.ledger import ledger
from ..dataset.manifest import Manifest
from ..dataset.manifest_files import MANIFEST, segments_of, write_manifest
from ..dataset.output import Output
from ..dataset.plan import Fingerprint, Plan, settle
from ..dataset.summary import QUARANTINE, SUMMARY, Summary, quarantined
from ..errors import InfrastructureError, LimitReachedError, StoppedError
from ..job.moments import duration
from ..records import Shard
from .manifest_keeper import ManifestKeeper
from .start_up import Stopwatch
from .tally import Tally
from .until import Limited


@dataclass(frozen=True)
class RunPlan:
    """What a run sets out to do."""

    watch: Stopwatch
    output: Output
    fingerprint: Fingerprint
    plan: Plan
    todo: list[Shard]
    done_before: int  # shards of the plan that were committed when the run began
    committed: Collection[str] = ()  # parts, at that time
    failed_before: Mapping[str, int] | None = None  # of a run that retries: shard -> rows that failed

    def mended(self, written: pa.Array, failed: int) -> int | None:
        """Rows that failed before and are embedded now. written: shards' URLs; failed: rows of them that failed
        again."""
        if self.failed_before is None:
            return None
        return max(0, sum(self.failed_before.get(url, 0) for url in written.to_pylist()) - failed)


def close_run(run: RunPlan, tally: Tally, keeper: ManifestKeeper, until: Limited) -> Summary:
    """Account for every shard of the plan. keeper: of what workers wrote. until: what may have stopped it.

    Raises StoppedError where the run was stopped with shards left, LimitReachedError where a limit did that,
    TooManyFailuresError where more failed than the job allows, and InfrastructureError where parts that workers wrote
    are not in the output.
    """
    output, written = run.output, keeper.urls
    planned = settle(output, run.plan, set(written.to_pylist()) if run.plan.changed else ())
    segments = segments_of(output)
    manifest = ledger(output, planned, keeper.unsaved)
    if lost := sorted(manifest.lacks(written)):
        raise InfrastructureError(
            f"{output.url}: {len(lost):,} parts that workers wrote are missing here, the part of {lost[0]} for one: "
            "name an output on storage that all machines share"
        )
    summary = Summary(
        out=output.url,
        planned=len(planned),
        done_before=run.done_before,
        run=tally.totals,
        seconds=run.watch.seconds,
        busy_seconds=tally.busy_seconds,
        failed_shards=tally.failed,
        dataset=manifest.totals,
        fingerprint=run.fingerprint.digest,
        workers=tally.workers,
        price_per_hour=tally.price_per_hour,
        cost=until.bill.total(time.monotonic()) if until.bill.prices else None,
        left=len(run.todo) - len(written) - len(tally.failed) - tally.elsewhere,
        elsewhere=tally.elsewhere,
        mended=run.mended(written, tally.totals.failed),
        start_up={**run.watch.stages, **tally.start_up},
    )
    if written or tally.failed or segments or None in (output.read(SUCCESS), output.read(MANIFEST)):
        write_manifest(output, manifest, segments)
        _write(output, summary, manifest)
    if tally.stopped and summary.left:
        raise _stopped(summary, len(run.todo), until.reached)
    tally.judge(summary)
    return summary


def _stopped(summary: Summary, todo: int, limit: str) -> StoppedError:
    parts = [f"stopped{f' at its {limit}' if limit else ''} with {summary.left:,} of {todo:,} shards left"]
    if limit and summary.cost is not None:
        parts.append(f"it cost {summary.cost:,.2f}")
    if limit and summary.seconds_left is not None:
        cost = f" and cost {summary.cost_left:,.2f}" if summary.cost_left is not None else ""
        parts.append(f"at its pace the rest would take {duration(summary.seconds_left)}{cost}")
    kind = LimitReachedError if limit else StoppedError
    return kind("; ".join([*parts, "run the same command to go on"]), summary)


def _write(output: Output, summary: Summary, committed: Manifest) -> None:
    output.write(SUMMARY, json.dumps(summary.as_json(), indent=2).encode())
    earlier = quarantined(output)
    lacking = committed.lacks(earlier)
    earlier = {url: reason for url, reason in earlier.items() if url in lacking}
    output.write(QUARANTINE, json.dumps(earlier | summary.failed_shards, indent=2).encode())
    if summary.complete:
        output.write(SUCCESS, b"")
