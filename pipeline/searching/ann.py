"""An approximate index of one side of a dataset (FAISS), as searches use it: `index.py` makes them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...clipmodel.download import cache_folder
from ..choices import IndexKind
from ..dataset.derived import begun
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..errors import InputError, UserError
from ..records import Vector
from ..storage.staging import unfinished
from .numbered_rows import Mask, NumberedRows
from .runs import Runs
from .scan import Numbers, Scores, Stored, best, highest, similarities

STEP = "index"
CARD = f"{OWN}/index.json"  # written last
INDEX = "index.faiss"
LISTS = "lists.faiss"  # the cells of ivf and ivfpq, read from disk when a search needs them
EFFORT = {"ivf": "nprobe", "ivfpq": "nprobe", "hnsw": "efSearch"}  # what FAISS calls it
_MORE = {"ivf": 2, "ivfpq": 20, "hnsw": 2}  # candidates for each wanted row; their exact scores choose among them


@cache
def faiss() -> Any:
    """FAISS's module. UserError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise UserError("indexes need FAISS: pip install 'clipmill[search]'") from error
    return faiss


@dataclass(frozen=True)
class Card:
    """The dataset, column and kind of an index, and how well it finds."""

    version: str  # of the dataset
    column: str
    kind: IndexKind
    rows: int  # of the dataset
    vectors: int  # of them with an embedding
    nlist: int = 0  # cells of ivf and ivfpq
    effort: int = 0  # cells that a search reads (nprobe), or hnsw's efSearch
    recall: Mapping[str, float] = field(default_factory=dict)  # recall@10 against exact search, by side of the queries
    exact_seconds: float = 0.0  # a query, median
    seconds: float = 0.0


@dataclass(frozen=True)
class Index:
    """An index, opened for searches."""

    card: Card
    index: Any  # FAISS's

    @classmethod
    def open(cls, url: str, numbered: NumberedRows, column: str) -> Index | None:
        """Open the index of a column; None for a flat one, which is exact search. InputError where there is none, or
        one of another dataset or column, or where the dataset has changed since."""
        dataset = numbered.dataset
        output = Output.at(url, dataset.output.storage_options)
        started, card = begun(output), read_card(output)
        if started is None or started[0] != STEP:
            raise InputError(f"{url} is not a clipmill index: name the folder given to `clipmill index --out`")
        if card is None:
            raise InputError(f"{url}: the index is not finished: run the same `clipmill index` again")
        if (started[1]["fingerprint"], started[1]["dataset"]) != (dataset.settings.digest, dataset.url):
            raise InputError(f"{url} is an index of {started[1]['dataset']}, not of {dataset.url}")
        if card.column != column:
            raise InputError(f"{url} is an index of {card.column}, not of {column}: choose with --for and --alias")
        if card.version != dataset.version:
            raise InputError(
                f"{url}: the dataset has changed since this index of {card.rows:,} rows was made, and has "
                f"{len(numbered):,} now: run `clipmill index` again"
            )
        return None if card.kind == "flat" else cls(card, _read(output, card))

    def nearest(self, vectors: Stored | Runs, query: Vector, k: int) -> tuple[Numbers, Scores]:
        """Positions and scores, best first; fewer than `k` only where fewer rows are indexed. The index names
        candidates; their exact scores, by `vectors` [rows, dim], put them in order."""
        rows = candidates(self.index, self.card.kind, query, k)
        if self.card.kind == "hnsw" and len(rows) < min(k, self.index.ntotal):
            return best(vectors, query[None], k, self._mapped(len(vectors)))[0]
        return highest(rows, similarities(vectors[rows], query[None])[:, 0], k)

    def _mapped(self, rows: int) -> Mask:
        """Which rows the graph holds. Among many equal vectors it cannot reach all, whatever the effort."""
        mask = np.zeros(rows, dtype=np.bool_)
        mask[faiss().vector_to_array(self.index.id_map)] = True
        return mask


def candidates(index: Any, kind: IndexKind, query: Vector, k: int) -> Numbers:
    """Positions of somewhat more than `k` rows, ascending; fewer where fewer are indexed, or the graph reaches fewer.

    The index's effort was measured for ten rows: where it is too small for `k`, more cells are searched.
    """
    count, enough = min(_MORE[kind] * k, index.ntotal), min(k, index.ntotal)
    _, positions = index.search(query[None], count)
    if kind != "hnsw":
        cells = index.nprobe
        while np.count_nonzero(positions >= 0) < enough and cells < index.nlist:
            cells = min(2 * cells, index.nlist)
            more = faiss().SearchParametersIVF(nprobe=cells)  # of this search alone: threads share the index
            _, positions = index.search(query[None], count, params=more)
    return np.unique(positions[positions >= 0])


def read_card(output: Output) -> Card | None:
    """The card of a finished index; None where there is none."""
    content = output.read(CARD)
    return None if content is None else Card(**json.loads(content))


def _read(output: Output, card: Card) -> Any:
    index = opened(Path(output.url) if output.is_local else _fetched(output, card))
    faiss().ParameterSpace().set_index_parameter(index, EFFORT[card.kind], card.effort)
    return index


def opened(folder: Path) -> Any:
    """FAISS's index with its cells left on disk. They are named here because FAISS, when it looks for them itself,
    prints to stdout."""
    index = faiss().read_index(str(folder / INDEX), faiss().IO_FLAG_SKIP_IVF_DATA)
    if (folder / LISTS).exists():
        lists = faiss().downcast_InvertedLists(faiss().extract_index_ivf(index).invlists)
        lists.filename, lists.read_only = str(folder / LISTS), True
        lists.do_mmap()
    return index


def _fetched(output: Output, card: Card) -> Path:
    """A folder with a local copy of an index in an object store."""
    folder = cache_folder() / "index" / hashlib.sha256(f"{output.url} {card}".encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for name in (LISTS, INDEX) if card.nlist else (INDEX,):
        if not (folder / name).exists():
            part = unfinished(folder, name)
            with output.open(name) as there, part.open("wb") as here:
                shutil.copyfileobj(there, here, 1 << 20)
            part.replace(folder / name)
    return folder
