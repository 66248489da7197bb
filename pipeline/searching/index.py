"""An approximate index (FAISS) of one side of a dataset: trained on a sample, filled segment by segment from the parts,
measured. Where the dataset has grown since, new and changed parts become another segment.

Memory holds the sample, or a piece for each core, whatever the dataset's size; the cells are on disk. After a kill the
next build uses what was trained, and the segments that were finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from filelock import FileLock

from ...clipmodel.download import cache_folder
from ..choices import IndexKind
from ..dataset.dataset import Dataset
from ..dataset.derived import begin
from ..dataset.output import Output
from ..errors import InputError
from ..job.index import IndexJob
from ..job.readable import Result
from ..running import notebook
from ..running.scatter import scatter
from ..running.stages import OnStage, Stage, counted
from .ann import CARD, STEP, Card, Index, read_card
from .ann_build import Fill, groups
from .ann_cells import GROWN, cells_for, code_size, kind_for, least_sample, sample_size, trained
from .ann_files import (
    Training,
    local_path,
    read_contents,
    read_training,
    segments_of,
    sweep,
    trained_path,
    trainings,
    write_training,
)
from .ann_merge import merge, to_merge
from .ann_recall import exact_seconds, measured
from .ann_sample import Survey, held_out, survey, training_sample
from .dense import column_of
from .faiss_library import cells_of, faiss
from .numbered_rows import NumberedRows
from .segment import Placed, lacking, placed


@dataclass(frozen=True)
class IndexSummary(Result):
    """What `index` returns."""

    out: str
    dataset: str
    card: Card
    done_before: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def index(job: IndexJob, on_stage: OnStage = notebook.stages) -> IndexSummary:
    """Make the index, or where the dataset has changed add what is new. UserError for what is wrong with the request,
    or where OUT was begun otherwise."""
    began = time.monotonic()
    job.check()
    dataset = Dataset.open(job.dataset, job.storage_options)
    column = column_of(dataset, job.side, job.alias)
    settings = {
        "dataset": dataset.url,
        "fingerprint": dataset.settings.digest,
        "column": column,
        "kind": job.kind,
        "nlist": job.nlist,
        "recall": job.recall,
    }
    output = Output.at(job.out, job.storage_options).prepare()
    begin(output, STEP, settings, job.overwrite)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    with _alone(output):
        before = read_card(output)
        if before is not None and before.version == dataset.version and not job.overwrite:
            return IndexSummary(output.url, dataset.url, before, True, time.monotonic() - began)
        card = _Build(job, NumberedRows.of(dataset), column, output, digest, on_stage).card(before)
        output.write(CARD, json.dumps(asdict(card), indent=2).encode())
        sweep(output, card.training, card.segments)
    return IndexSummary(output.url, dataset.url, card, False, time.monotonic() - began)


@dataclass(frozen=True)
class _Build:
    job: IndexJob
    numbered: NumberedRows
    column: str
    output: Output
    settings: str  # digest
    on_stage: OnStage

    def card(self, before: Card | None) -> Card:
        """The card of the index, whose files are written. before: of the index that is there."""
        training = self._known(before)
        if training is None:
            surveyed = self._surveyed()
            kind = kind_for(self.job.kind, surveyed.vectors, surveyed.pool.shape[1])
            if kind == "flat":
                return Card(self._version, self.column, kind, len(self.numbered), surveyed.vectors)
            training = self._trained(kind, surveyed)
        segments = self._filled(training)
        self.on_stage(Stage("measuring", "segments", 0, len(segments)))
        vectors = sum(one.vectors() for one in segments)
        card = Card(
            self._version,
            self.column,
            training.kind,
            len(self.numbered),
            vectors,
            training.nlist,
            exact_seconds=round(vectors * training.seconds_a_row, 6),
            training=training.name,
            segments=[one.contents.name for one in segments],
        )
        return measured(Index.of(card, self.output, self.numbered), training.queries, self.job.recall)

    @property
    def _version(self) -> str:
        return self.numbered.dataset.version

    def _known(self, before: Card | None) -> Training | None:
        """What a build that was killed has trained, or the index that is there; None where that was for far fewer rows,
        or is to be replaced."""
        there = trainings(self.output)
        kept = {before.training} & there if before is not None else set()
        for name in (*sorted(there - kept), *(() if self.job.overwrite else kept)):
            training = read_training(self.output, name)
            if training.settings == self.settings and len(self.numbered) <= GROWN * training.rows:
                return training
        return None

    def _surveyed(self) -> Survey:
        """A sample large enough for what is to be trained; all rows where exact search is wanted, or no row has what is
        indexed."""
        rows = len(self.numbered)
        dim = self.numbered.dataset.schema.field(self.column).type.list_size
        wanted = sample_size(cells_for(self.job.nlist, max(1, rows), dim), dim)
        self.on_stage(Stage("sampling", "rows", 0, min(wanted, rows)))
        surveyed = survey(self.numbered, self.column, wanted, self.job.kind == "flat", self.job.address)
        if not surveyed.vectors:
            surveyed = survey(self.numbered, self.column, wanted, True, self.job.address)
        if not surveyed.vectors:
            url, side = self.numbered.dataset.url, self.job.side
            raise InputError(f"{url}: none of its {rows:,} rows has an embedding of its {side}")
        return surveyed

    def _trained(self, kind: IndexKind, surveyed: Survey) -> Training:
        pool = surveyed.pool
        nlist = 0
        if kind != "hnsw":
            nlist = min(cells_for(self.job.nlist, surveyed.vectors, pool.shape[1]), len(pool))
        self.on_stage(Stage("training", "cells", 0, nlist))
        queries, chosen = held_out(self.numbered, self.column, surveyed, self._other_side())
        sample = training_sample(surveyed, chosen, sample_size(nlist, pool.shape[1]), least_sample(kind, nlist))
        a_row = exact_seconds(pool, queries.vectors[0])
        name = uuid.uuid4().hex[:8]
        training = Training(name, self.settings, kind, nlist, len(self.numbered), a_row, queries)
        made = trained(kind, nlist, sample)
        write_training(self.output, training, lambda path: faiss().write_index(made, str(path)))
        return training

    def _other_side(self) -> str | None:
        """The other side's column; None where the dataset has none."""
        other = "text" if self.job.side == "image" else "image"
        if f"{other}s" not in self.numbered.dataset.settings.embeds.split(" and "):
            return None
        return column_of(self.numbered.dataset, other, self.job.alias)

    def _filled(self, training: Training) -> list[Placed]:
        """The segments that hold the dataset as it is: those that are there, and new ones of what they lack."""
        parts = lacking(self._segments(training), self.numbered.dataset)
        pieces = groups(self.numbered, parts, training.kind)
        threads = max(1, (os.cpu_count() or 1) // max(1, len(pieces)))
        fill = Fill(self.numbered.dataset, self.column, self.output, training.name, threads)
        for _ in counted(scatter(fill, pieces, self.job.address), "adding", "pieces", len(pieces), self.on_stage):
            pass
        segments = self._segments(training)
        code = code_size(self.numbered.dataset.schema.field(self.column).type.list_size)
        together = to_merge(segments, code)
        for some in counted(together, "merging", "segments", len(together), self.on_stage):
            index = faiss().read_index(str(local_path(self.output, trained_path(training.name))))
            merge(self.output, training.name, cells_of(index), some)
        return self._segments(training) if together else segments

    def _segments(self, training: Training) -> list[Placed]:
        names = segments_of(self.output, training.name)
        return placed((read_contents(self.output, training.name, name) for name in names), self.numbered)


@contextmanager
def _alone(output: Output) -> Iterator[None]:
    """One build of an index at a time on this machine."""
    digest = hashlib.sha256(output.url.encode()).hexdigest()[:16]
    folder = cache_folder() / "index"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{digest}.lock"):
        yield
