"""Lists of URLs to WebDataset shards, through img2dataset; run again to continue, or when the lists have grown."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ...pipeline.dataset.derived import begin
from ...pipeline.dataset.output import Output
from ...pipeline.errors import InputError, TooManyFailuresError
from ...pipeline.job.ingest import IngestJob
from ...pipeline.job.readable import Result
from ...pipeline.redaction import redacted_text
from ...pipeline.running import notebook
from ...pipeline.running.scatter import scatter
from ...pipeline.running.stages import OnStage, Stage
from .ingest_shard import STATE, Ingested, IngestShard, UrlShard, failed_rows
from .url_lists import find_lists, read_list

_RETRY = "failures of "
_Spans = Mapping[str, list[tuple[int, int]]]  # source of rows -> the ranges (first, end) that shards hold already


@dataclass(frozen=True)
class IngestSummary(Result):
    """What `ingest` returns; rows = downloaded + failed, over all runs."""

    out: str
    shards: int
    new_shards: int  # of this run
    rows: int  # URLs of the lists
    downloaded: int
    failures: dict[str, int]  # by reason, of each URL's last attempt
    seconds: float

    @property
    def failed(self) -> int:
        return self.rows - self.downloaded

    def as_json(self) -> dict[str, Any]:
        return {**self.__dict__, "failed": self.failed, "seconds": round(self.seconds, 3)}


def ingest(job: IngestJob, on_stage: OnStage = notebook.stages) -> IngestSummary:
    """Download the URLs that no shard holds yet. A shard's tar appears last, in one piece; failures keep their reason.

    Raises UserError for a wrong request, PlanMismatchError where OUT was begun with other columns or another resize
    policy, TooManyFailuresError when more URLs failed than the job allows.
    """
    began = time.monotonic()
    job.check()
    output = Output.at(job.out, job.storage_options)
    lists = find_lists(job)
    read_list(lists[0], job)  # before anything is written, so that a wrong column is reported at once
    output = output.prepare()
    begin(output, "ingest", _settings(job))
    todo = _Todo(job, lists, output)
    done, known = todo.done, len(todo.done)
    spread = scatter(IngestShard(job, output), todo.shards(), job.address)
    for ended, (shard, ingested) in enumerate(spread, start=1):
        done[shard.name] = ingested
        on_stage(Stage("downloading", "shards", ended, todo.started))  # lists are read as they are needed
    summary = _summary(output, done, len(done) - known, time.monotonic() - began)
    if summary.failed > job.max_failed_samples * summary.rows:
        top = "; ".join(f"{reason} ({count:,})" for reason, count in list(summary.failures.items())[:3])
        raise TooManyFailuresError(f"{summary.failed:,} of {summary.rows:,} URLs failed: {top}", summary)
    return summary


def _settings(job: IngestJob) -> dict[str, Any]:
    """Everything that a shard's bytes depend on, apart from the servers' answers."""
    names: tuple[str, ...] = (
        "url_column",
        "caption_column",
        "sha256_column",
        "image_size",
        "resize_mode",
        "only_if_bigger",
    )
    names += ("encode_quality", "min_image_size", "max_aspect_ratio", "samples_per_shard")
    return {name.replace("_", " "): getattr(job, name) for name in names} | {"columns": list(job.columns)}


class _Todo:
    """Which rows become which shards. A list may grow at its end; its earlier rows must stay as they were.

    Shards end in any order, and a run may die between any two, so the remaining rows may lie anywhere in a list. A
    number without a state file is free: a tar whose run died before it wrote the state is replaced, not duplicated.
    """

    def __init__(self, job: IngestJob, lists: list[str], output: Output) -> None:
        self._job, self._lists, self._output = job, lists, output
        names = sorted(output.names(STATE))
        self.done = {name.removesuffix(".json"): Ingested.read(output.read(f"{STATE}/{name}") or b"") for name in names}
        # `done` grows during the run, so what is left to do is computed from its state now
        self._spans = _spans(self.done.values())
        self._taken = {int(name) for name in self.done}
        self._failed = [shard for shard in self.done.values() if _to_retry(shard, self._spans)]
        self.started = 0  # shards, so far

    def shards(self) -> Iterator[UrlShard]:
        free = (number for number in itertools.count() if number not in self._taken)
        for source, rows in self._new_rows():
            self.started += 1
            yield UrlShard(next(free), source, rows)

    def _new_rows(self) -> Iterator[tuple[str, pa.Table]]:
        for url in self._lists:
            table, shown = read_list(url, self._job), redacted_text(url)
            held = max((end for _, end in self._spans.get(shown, [])), default=0)
            if held > len(table):
                raise InputError(
                    f"{shown} has {len(table):,} URLs, but {held:,} were ingested from it before: a list may only grow "
                    "at its end; restore the earlier rows, or ingest this list into another folder"
                )
            yield from self._missing(shown, table)
        if self._job.retry_failed:
            columns = ["url", *(["caption"] if self._job.caption_column else []), *self._job.columns]
            for shard in self._failed:
                yield from self._missing(f"{_RETRY}{shard.name}", failed_rows(self._output, shard, columns))

    def _missing(self, source: str, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        size = self._job.samples_per_shard
        for first, end in _gaps(self._spans.get(source, []), len(table)):
            for start in range(first, end, size):
                stop = min(start + size, end)
                yield f"{source} {start}-{stop}", table.slice(start, stop - start)


def _spans(done: Iterable[Ingested]) -> _Spans:
    spans = defaultdict(list)
    for shard in done:
        source, first, end = shard.span
        spans[source].append((first, end))
    return spans


def _gaps(spans: list[tuple[int, int]], total: int) -> Iterator[tuple[int, int]]:
    """The ranges of `total` rows that no span covers."""
    at = 0
    for first, end in [*sorted(spans), (total, total)]:
        if at < first:
            yield at, first
        at = max(at, end)


def _to_retry(shard: Ingested, spans: _Spans) -> bool:
    """Whether it has failed rows that no later shard holds. Derived from the shards alone: a separate note about the
    retry could get lost after the shard's commit."""
    return any(_gaps(spans.get(f"{_RETRY}{shard.name}", []), shard.failed))


def _summary(output: Output, done: dict[str, Ingested], new: int, seconds: float) -> IngestSummary:
    failures: Counter[str] = Counter()
    spans = _spans(done.values())
    for shard in done.values():
        if _to_retry(shard, spans):
            failures.update(shard.failures)
    return IngestSummary(
        out=output.url,
        shards=len(done),
        new_shards=new,
        rows=sum(shard.rows for shard in done.values() if not shard.of.startswith(_RETRY)),
        downloaded=sum(shard.downloaded for shard in done.values()),
        failures=dict(failures.most_common()),
        seconds=seconds,
    )
