"""An approximate index (FAISS) of one side of a dataset: trained on a sample, filled piece by piece, measured.

Memory holds the sample or one piece, whatever the dataset's size; the cells are on disk. After a kill the next build
uses the pieces that are finished.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ...clipmodel.download import cache_folder
from ..choices import IndexKind
from ..dataset.dataset import Dataset
from ..dataset.derived import begin
from ..dataset.output import Output
from ..errors import InputError
from ..job.index import IndexJob
from ..job.readable import Result
from ..records import Vectors
from ..running import notebook
from ..running.stages import OnStage, Stage, counted
from .ann import CARD, INDEX, LISTS, STEP, Card, faiss, opened, read_card
from .ann_build import cells_for, fill, kind_for, least_sample, piece_rows, put_together, sample_size, trained
from .ann_recall import Queries, held_out, measured
from .dense import Dense, OnBytes, column_of, dense
from .numbered_rows import NumberedRows
from .scan import Numbers


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


def index(job: IndexJob, on_stage: OnStage = notebook.stages, on_bytes: OnBytes = lambda *_: None) -> IndexSummary:
    """Make the index, or make it again where the dataset has changed. Embeddings are copied to a local disk first, as
    for a search. UserError for what is wrong with the request, or where OUT was begun otherwise."""
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
    begin(output, STEP, settings)
    before = read_card(output)
    if before is not None and before.version == dataset.version:
        return IndexSummary(output.url, dataset.url, before, True, time.monotonic() - began)
    output.delete(CARD)
    numbered = NumberedRows.of(dataset)
    build = _Build(job, numbered, column, dense(numbered, column, on_bytes), on_stage)
    with _work_folder({**settings, "version": dataset.version}) as work:
        card = build.into(work)
        for name in (LISTS, INDEX):
            if (work / name).exists():
                with output.staged(name, replace=True) as path:
                    shutil.move(work / name, path)
        output.write(CARD, json.dumps(asdict(card), indent=2).encode())
    return IndexSummary(output.url, dataset.url, card, False, time.monotonic() - began)


@dataclass(frozen=True)
class _Build:
    job: IndexJob
    numbered: NumberedRows
    column: str
    dense: Dense
    on_stage: OnStage

    def into(self, work: Path) -> Card:
        """Write `INDEX`, and `LISTS` where there are cells, into a folder."""
        rows, dim = np.flatnonzero(self.dense.present), self.dense.vectors.shape[1]
        if not len(rows):
            url, side = self.numbered.dataset.url, self.job.side
            raise InputError(f"{url}: none of its {len(self.numbered):,} rows has an embedding of its {side}")
        kind = kind_for(self.job.kind, len(rows), dim)
        nlist = cells_for(self.job.nlist, len(rows)) if kind in ("ivf", "ivfpq") else 0
        card = Card(self.numbered.dataset.version, self.column, kind, len(self.numbered), len(rows), nlist)
        if kind == "flat":
            return card
        queries = held_out(self.numbered, self.column, self.dense, self._other_side())
        empty, pieces = work / "trained.faiss", []
        self.on_stage(Stage("training", "cells", 0, nlist))
        _keep(empty, lambda: trained(kind, nlist, self._sample(kind, nlist, rows, queries)))
        size = piece_rows(kind, dim)
        starts = range(0, len(rows), size)
        for start in counted(starts, "adding", "pieces", len(starts), self.on_stage):
            pieces.append(work / f"piece-{start}.faiss")
            _keep(pieces[-1], partial(self._filled, empty, rows[start : start + size]))
        put_together(kind, empty, pieces, work)
        self.on_stage(Stage("measuring", "sides", 0, len(queries)))
        return measured(card, opened(work), self.dense, queries, self.job.recall)

    def _other_side(self) -> str | None:
        """The other side's column; None where the dataset has none."""
        other = "text" if self.job.side == "image" else "image"
        if f"{other}s" not in self.numbered.dataset.settings.embeds.split(" and "):
            return None
        return column_of(self.numbered.dataset, other, self.job.alias)

    def _sample(self, kind: IndexKind, nlist: int, rows: Numbers, queries: dict[str, Queries]) -> Vectors:
        """Vectors to train on: not the queries, unless there are too few without them."""
        others = np.setdiff1d(rows, queries[self.job.side].rows)
        if len(others) < least_sample(kind, nlist):
            others = rows
        chosen = np.random.default_rng(0).choice(others, min(sample_size(nlist), len(others)), replace=False)
        return self.dense.vectors[np.sort(chosen)].astype(np.float32)

    def _filled(self, empty: Path, rows: Numbers) -> Any:
        index = faiss().read_index(str(empty))
        fill(index, self.dense.vectors, rows)
        return index


def _keep(path: Path, make: Callable[[], Any]) -> None:
    """Make an index and write it, unless an earlier build, killed since, has written it."""
    if not path.exists():
        unfinished = path.with_suffix(".part")
        faiss().write_index(make(), str(unfinished))
        unfinished.replace(path)


@contextmanager
def _work_folder(settings: Mapping[str, Any]) -> Iterator[Path]:
    """A folder on a local disk, the same for the same settings; it stays until the index is written."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / "index" / f"work-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)  # the process that held the lock may have finished this index and removed it
        yield folder
        shutil.rmtree(folder)
