"""Lists of URLs to WebDataset shards, through img2dataset; run again to go on, or when the lists have grown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from ..pipeline.derived import begin
from ..pipeline.errors import InputError, TooManyFailuresError
from ..pipeline.job import IngestJob
from ..pipeline.output import Output
from ..pipeline.redaction import redacted_text
from ..pipeline.running.stages import OnStage, Stage
from ..pipeline.scatter import scatter
from .ingest_shard import STATE, Ingested, IngestShard, UrlShard, failed_rows
from .url_lists import find_lists, read_list

_RETRY = "failures of "


@dataclass(frozen=True)
class IngestSummary:
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


def ingest(job: IngestJob, on_stage: OnStage = lambda _: None) -> IngestSummary:
    """Download what no shard holds yet. A shard's tar appears last, and whole; what failed is kept with its reason.

    UserError for what is wrong with the request, PlanMismatchError where OUT was begun with other columns or another
    resize policy, TooManyFailuresError when more URLs failed than the job allows.
    """
    began = time.monotonic()
    job.check()
    output = Output.at(job.out, job.storage_options)
    lists = find_lists(job)
    read_list(lists[0], job)  # before anything is made, so that a wrong column is told first
    output = output.prepare()
    begin(output, "ingest", _settings(job))
    todo = _Todo(job, lists, output)
    done, known = todo.done, len(todo.done)
    spread = scatter(IngestShard(job, output), todo.shards(), job.address)
    for count, (shard, ingested) in enumerate(spread, start=1):
        done[shard.name] = ingested
        on_stage(Stage("downloading", "shards", count, todo.given))  # lists are read as they are needed
    for name in todo.retried:
        done[name] = replace(done[name], retried=True)
        output.write(f"{STATE}/{name}.json", done[name].written())
    summary = _summary(output, done, len(done) - known, time.monotonic() - began)
    if summary.failed > job.max_failed_samples * summary.rows:
        top = "; ".join(f"{reason} ({count:,})" for reason, count in list(summary.failures.items())[:3])
        raise TooManyFailuresError(f"{summary.failed:,} of {summary.rows:,} URLs failed: {top}", summary)
    return summary


def _settings(job: IngestJob) -> dict[str, Any]:
    """All that a shard's bytes depend on, but for what servers say."""
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
    """Which rows become which shards. A list may grow at its end: what it held before stays where it is."""

    def __init__(self, job: IngestJob, lists: list[str], output: Output) -> None:
        self._job, self._lists, self._output = job, lists, output
        names = sorted(output.names(STATE))
        before = {name.removesuffix(".json"): Ingested.read(output.read(f"{STATE}/{name}") or b"") for name in names}
        self.done, self._before = before, dict(before)  # what this run does is no part of what it has to do
        self.given = 0  # shards, so far
        self.retried: list[str] = []  # shards whose failed rows are among those to do

    def shards(self) -> Iterator[UrlShard]:
        number = max((int(name) + 1 for name in self._before), default=0)
        for of, rows in self._new_rows():
            self.given += 1
            yield UrlShard(number, of, rows)
            number += 1

    def _new_rows(self) -> Iterator[tuple[str, pa.Table]]:
        size = self._job.samples_per_shard
        for url in self._lists:
            table, said = read_list(url, self._job), redacted_text(url)
            start = self._covered(said)
            if start > len(table):
                raise InputError(
                    f"{said}: has {len(table):,} URLs, of which {start:,} were ingested: lists may only grow"
                )
            for first in range(start, len(table), size):
                rows = table.slice(first, size)
                yield f"{said} {first}-{first + len(rows)}", rows
        if self._job.retry_failed:
            yield from self._failures(size)

    def _covered(self, said: str) -> int:
        ends = [int(each.of.rpartition("-")[2]) for each in self._before.values() if each.of.rpartition(" ")[0] == said]
        return max(ends, default=0)

    def _failures(self, size: int) -> Iterator[tuple[str, pa.Table]]:
        columns = ["url", *(["caption"] if self._job.caption_column else []), *self._job.columns]
        failed = [each for each in self._before.values() if each.failures and not each.retried]
        self.retried = [each.name for each in failed]
        for each in failed:
            rows = failed_rows(self._output, each, columns)
            for first in range(0, len(rows), size):
                yield f"{_RETRY}{each.name}", rows.slice(first, size)


def _summary(output: Output, done: dict[str, Ingested], new: int, seconds: float) -> IngestSummary:
    failures: Counter[str] = Counter()
    for each in done.values():
        if not each.retried:
            failures.update(each.failures)
    return IngestSummary(
        out=output.url,
        shards=len(done),
        new_shards=new,
        rows=sum(each.rows for each in done.values() if not each.of.startswith(_RETRY)),
        downloaded=sum(each.downloaded for each in done.values()),
        failures=dict(failures.most_common()),
        seconds=seconds,
    )
