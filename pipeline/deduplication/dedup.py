"""A subset without duplicates: equal files first, then embeddings that are near each other (SemDeDup)."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import duckdb
import numpy as np

from ..dataset.dataset import Dataset
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..dataset.sql import connect as connect_sql
from ..dataset.sql import register_storage
from ..dataset.subset import Funnel, Subset, begin_subset, finish_subset, version_of
from ..errors import InputError, UserError
from ..job.dedup import DedupJob
from ..job.readable import Result
from ..records import Vectors
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, counted
from . import kmeans
from .against import FindRun, Reference, write_found
from .cells import CellFiles, index_name
from .components import Ids, connect
from .copies import Written, count_left, view_rows, write_exact, write_groups
from .groups import GROUPS, sizes
from .near import ComparePiece, pieces
from .parts import AssignRun, Candidates, WritePart, runs_of

_SCRATCH = f"{OWN}/dedup-"  # prefix of files that are deleted when the subset is finished
_AT_ONCE = 16  # files deleted

_ONE_CELL = 1 << 15  # rows up to which all are compared with all, in seconds
_A_CELL, _MOST = 64, 1 << 20  # vectors that k-means sees, per cell and at most: 2 GiB of float32[512]


@dataclass(frozen=True)
class DedupSummary(Result):
    """What `dedup` returns."""

    out: str
    dataset: str
    funnel: Funnel
    groups: Mapping[int, int]  # rows in a group -> number of groups with as many
    done_before: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def dedup(job: DedupJob, on_stage: OnStage = notebook.stages) -> DedupSummary:
    """Keep the best of each group of duplicates; run again to resume, or when the dataset has grown.

    Groups are connected: rows that are near to one row are of one group, however far they are from each other. All
    groups are in OUT/.clipmill/groups.parquet. Until the subset is finished, OUT/.clipmill also holds every compared
    embedding `probes` times. UserError for what is wrong with the request, PlanMismatchError where OUT was begun
    otherwise.
    """
    began = time.monotonic()
    request = _Request.of(job)
    todo = begin_subset(request.output, "dedup", request.dataset, request.settings, job.overwrite)
    subset = _deduplicate(request, on_stage) if todo else Subset.open(request.output.url, job.storage_options)
    _clear(request.output)
    return DedupSummary(
        out=request.output.url,
        dataset=request.dataset.url,
        funnel=subset.funnel,
        groups=sizes(request.output),
        done_before=not todo,
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Request:
    """A job, with the dataset and the rest that it names opened and checked."""

    job: DedupJob
    dataset: Dataset
    output: Output
    content: str  # column that is equal for exact copies
    vectors: str  # column of embeddings
    keep_by: str
    within: Subset | None
    references: tuple[Reference, ...]

    @classmethod
    def of(cls, job: DedupJob) -> _Request:
        job.check()
        dataset = Dataset.open(job.dataset, job.storage_options)
        prefix = dataset.model(job.alias).prefix
        if job.near and f"{job.side}s" not in dataset.settings.embeds:
            raise InputError(f"{dataset.url} has no embeddings of {job.side}s; use --no-near, or the other --for")
        keep_by = _sortable(dataset, job.keep_by or f"{prefix}similarity")
        within = Subset.within(job.within, dataset)
        content, vectors = "sha256" if job.side == "image" else "caption", f"{job.side}_embedding"
        compared = (content if job.exact else None, vectors if job.near else None)
        references = tuple(Reference.open(url, dataset, job.alias, *compared) for url in job.against)
        version = " against ".join([version_of(dataset, within), *(other.dataset.version for other in references)])
        dataset = replace(dataset, version=version)
        output = Output.at(job.out, job.storage_options).prepare()
        return cls(job, dataset, output, content, f"{prefix}{vectors}", keep_by, within, references)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the subset depends on."""
        near = {"threshold": self.job.threshold, "cells": self.job.cells, "probes": self.job.probes}
        against = {"against": [other.dataset.url for other in self.references]} if self.references else {}
        alone = {"only against": True} if self.job.only_against else {}
        return {
            "for": self.job.side,
            "model": self.dataset.model(self.job.alias).alias,
            "exact": self.job.exact,
            "near": near if self.job.near else False,
            "keep by": self.keep_by,
            "within": self.within.output.url if self.within else None,
            **against,
            **alone,
        }

    @property
    def scratch(self) -> str:
        """Prefix of this run's own files; another one once the dataset has grown."""
        return f"{_SCRATCH}{hashlib.sha256(self.dataset.version.encode()).hexdigest()[:12]}-"

    @contextmanager
    def sql(self, against: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the view `rows`, and with access to the output's storage. against: name of a file of rows
        that other datasets have."""
        with connect_sql(self.dataset, self.within) as connection:
            register_storage(connection, self.output.url, self.output.storage_options)
            there = f"{self.output.url}/{against}" if against else None
            view_rows(connection, self.dataset, self.content, self.keep_by, there)
            yield connection


def _sortable(dataset: Dataset, column: str) -> str:
    """The column itself. UserError where there is no such column, or where it has no highest value."""
    columns = [field.name for field in dataset.schema if not field.name.endswith("_embedding")]
    if column not in columns:
        raise UserError(f"--keep-by {column}: no such column; there are {', '.join(columns)}")
    return column


def _deduplicate(request: _Request, on_stage: OnStage) -> Subset:
    dataset, output, job = request.dataset, request.output, request.job
    _clear(output, but=request.scratch)
    exact, dropped = f"{request.scratch}exact.parquet", f"{request.scratch}dropped.parquet"
    against = _against(request, on_stage) if request.references else None
    with request.sql(against) as connection:
        if exact not in _names(output):
            with output.staged(exact, replace=True) as path:
                write_exact(connection, path, job.exact and not job.only_against)
        near = np.empty((0, 2), np.int64)
        if job.near and not job.only_against:
            left = partial(count_left, connection, f"{output.url}/{exact}")
            near = _near(request, (exact, against) if against else (exact,), left, on_stage)
        with output.staged(GROUPS, replace=True) as groups, output.staged(dropped, replace=True) as path:
            written = Written(groups, path)
            funnel = write_groups(connection, f"{output.url}/{exact}", near, written, against is not None)
    write, numbered = WritePart(dataset, output, dropped, request.within), list(enumerate(dataset.parts))
    for _ in counted(scatter(write, numbered, job.address), "writing", "parts", len(numbered), on_stage):
        pass
    return finish_subset(output, dataset, funnel)


def _against(request: _Request, on_stage: OnStage) -> str:
    """The name of a file with the rows that other datasets have, or have near ones of; see `write_found`."""
    job, dataset, output = request.job, request.dataset, request.output
    columns = (request.content if job.exact else None, request.vectors if job.near else None)
    find = FindRun(dataset, *columns, request.references, job.threshold, request.within, output, request.scratch)
    runs, done = runs_of(dataset), _names(output)
    todo = [run for run in runs if find.name_of(run) not in done]
    for _ in counted(scatter(find, todo, job.address), "comparing with other datasets", "runs", len(todo), on_stage):
        pass
    equal, near = zip(*map(find.found, runs), strict=True)
    name = f"{request.scratch}against.parquet"
    write_found(np.concatenate(equal), np.concatenate(near), output, name)
    return name


def _near(request: _Request, left_out: tuple[str, ...], rows: Callable[[], int], on_stage: OnStage) -> Ids:
    """int64 [n, 2]: each id that is near to others, and the lowest of those that it is connected to.

    left_out: files of ids that are not compared. rows: counts those that are; called only where centroids are still to
    be made.
    """
    job, dataset, output = request.job, request.dataset, request.output
    candidates = Candidates(dataset, request.vectors, output, left_out, request.within)
    assign = AssignRun(candidates, _centroids(request, candidates, rows), job.probes, request.scratch)
    runs, done = runs_of(dataset), _names(output)
    todo = [run for run in runs if index_name(assign.name_of(run)) not in done]
    for _ in counted(scatter(assign, todo, job.address), "assigning to cells", "runs", len(todo), on_stage):
        pass
    files, offsets = CellFiles.open(output, [assign.name_of(run) for run in runs], candidates.record)
    compare, work = ComparePiece(files, job.threshold, request.scratch), list(pieces(offsets))
    left = [piece for piece in work if compare.name_of(piece) not in done]
    for _ in counted(scatter(compare, left, job.address), "comparing in cells", "pieces", len(left), on_stage):
        pass
    pairs = np.concatenate([compare.pairs_of(piece) for piece in work])
    ids, indices = np.unique(pairs, return_inverse=True)
    return np.stack([ids, ids[connect(np.arange(len(ids)), indices.reshape(-1, 2))]], axis=1)


def _centroids(request: _Request, candidates: Candidates, rows: Callable[[], int]) -> Vectors:
    """float32 [cells, dim]; made once, and kept for a run that resumes."""
    name = f"{request.scratch}centroids.npy"
    kept = request.output.read(name)
    if kept is not None:
        loaded: Vectors = np.load(io.BytesIO(kept))
        return loaded
    count = rows()
    cells = request.job.cells or (1 if count <= _ONE_CELL else round(math.sqrt(count) / 2))
    centroids = np.zeros((1, candidates.record["vector"].shape[0]), np.float32)
    if cells > 1:
        most = min(cells * _A_CELL, _MOST)
        numbered = list(enumerate(request.dataset.parts))[:: max(1, count // (4 * most))]
        sampled = kmeans.sample((vectors for part in numbered for _, vectors in candidates.of(*part)), most)
        centroids = kmeans.train(sampled, cells) if len(sampled) else centroids
    file = io.BytesIO()
    np.save(file, centroids)
    request.output.write(name, file.getvalue())
    return centroids


def _names(output: Output) -> set[str]:
    return {f"{OWN}/{name}" for name in output.names(OWN)}


def _clear(output: Output, but: str | None = None) -> None:
    """Delete the files of runs into this output, apart from those whose names begin with `but`."""
    names = [name for name in _names(output) if name.startswith(_SCRATCH) and not (but and name.startswith(but))]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(output.delete, names))
