"""An approximate index of one side of a dataset (FAISS), as searches use it: `index.py` makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np

from ..choices import IndexKind
from ..dataset.derived import begun
from ..dataset.layout import OWN
from ..dataset.output import Output
from ..errors import InputError
from ..records import Vector, Vectors
from .ann_earlier import earlier
from .ann_files import forget_copies, local_path, read_contents, read_training, trained_path, vectors_path
from .array_runs import Runs, Stored
from .faiss_library import Found, cells_of, compare_whole, empty_like, faiss, search_cells, selector_of
from .numbered_rows import Mask, NumberedRows
from .part_vectors import PartVectors
from .scan import Numbers, Scores, highest, similarities
from .segment import Placed, placed

STEP = "index"
CARD = f"{OWN}/index.json"  # written last
MOST_EFFORT = 1 << 13  # of a graph; from there on it is compared whole
_MORE = {"ivf": 2, "ivfpq": 20, "hnsw": 2}  # candidates for each wanted row; their exact scores choose among them
_THREADS = 16  # segments searched at the same time

Search = Callable[[Vectors, int, int, "Mask | None"], Found]


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
    exact_seconds: float = 0.0  # a query compared with every vector, told from a sample in memory
    seconds: float = 0.0  # that the index takes to name its candidates, median
    training: str = ""  # none for flat
    segments: Sequence[str] = ()


@dataclass(frozen=True)
class Segment:
    """index: FAISS's, its cells mapped from disk, its numbers those of `placed.contents`."""

    placed: Placed
    index: Any

    @classmethod
    def open(cls, output: Output, training: str, trained: Any, one: Placed) -> Segment:
        return cls(one, _opened(output, training, trained, one))

    def search(self, queries: Vectors, count: int, effort: int, cells: Found | None, mask: Mask | None) -> Found:
        """Scores and positions in the dataset, [queries, count]. cells: those that the quantizer has found."""
        allowed = None if mask is None and self.placed.is_whole() else self.placed.allowed(mask)
        selector = None if allowed is None else selector_of(allowed)
        if cells is not None:
            scores, rows = search_cells(self.index, queries, count, cells, selector)
        elif effort < MOST_EFFORT:
            parameters = faiss().SearchParametersHNSW(efSearch=max(effort, count), sel=selector)
            scores, rows = self.index.search(queries, count, params=parameters)
        else:
            scores, rows = compare_whole(self.index, queries, count, allowed)
        return scores, self.placed.positions(rows)


@dataclass(frozen=True)
class Index:
    """An index, opened for searches. trained: FAISS's inverted file, whose quantizer finds cells; None for graphs.
    sample: float32 [n, dim], some vectors at random; none of an index without segments."""

    card: Card
    trained: Any
    segments: Sequence[Segment]
    sample: Vectors

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
        return None if card.kind == "flat" else cls.of(card, output, numbered)

    @classmethod
    def of(cls, card: Card, output: Output, numbered: NumberedRows) -> Index:
        """The index that a card describes."""
        if not card.training:
            one, index = earlier(output, numbered, card.nlist)
            return cls(card, cells_of(index), [Segment(one, index)], np.empty((0, index.d), np.float32))
        contents = [read_contents(output, card.training, name) for name in card.segments]
        trained = cells_of(faiss().read_index(str(local_path(output, trained_path(card.training)))))
        some = placed(contents, numbered)
        opened = [Segment.open(output, card.training, trained, one) for one in some]
        if not output.is_local:
            vectors = {vectors_path(card.training, one.contents.name) for one in some}
            forget_copies(output, vectors | {trained_path(card.training)})
        queries = read_training(output, card.training).queries
        own = queries.vectors[[bool(part) for part in queries.parts]]
        return cls(card, trained, opened, own)

    @property
    def is_earlier(self) -> bool:
        """Whether it was made before indexes had segments: it does not know which rows have no embedding."""
        return not self.card.training

    @cached_property
    def present(self) -> Mask:
        """The rows of the dataset that the index holds: bool [rows]."""
        present = np.zeros(self.card.rows, dtype=np.bool_)
        for segment in self.segments:
            segment.placed.spread(present)
        return present

    def holds(self, position: int) -> bool:
        """Whether a row of the dataset is in the index."""
        return any(segment.placed.holds(position) for segment in self.segments)

    def nearest(
        self, vectors: Stored | Runs | PartVectors, query: Vector, k: int, mask: Mask | None = None
    ) -> tuple[Numbers, Scores]:
        """Positions and scores, best first; fewer than `k` only where fewer rows are indexed, and in the mask. The
        index names candidates; their exact scores, by `vectors` [rows, dim], put them in order."""
        rows = self.candidates(query, k, mask)
        return highest(rows, similarities(vectors[rows], query[None])[:, 0], k)

    def candidates(self, query: Vector, k: int, mask: Mask | None = None) -> Numbers:
        """Positions of somewhat more than `k` rows, ascending; fewer where fewer are indexed, and in the mask.

        The index's effort was measured for ten rows among all. Where few are in the mask, so many more cells are
        searched that as many vectors are compared; and where cells are too few for `k`, more.
        """
        there = self.card.vectors if mask is None else int((mask & self.present).sum())
        enough = min(k, there)
        most = self.trained.nlist if self.trained is not None else MOST_EFFORT
        effort = min(most, max(1, round(self.card.effort * self.card.vectors / max(1, there))))
        while True:
            _, positions = self.search(query[None], min(_MORE[self.card.kind] * k, there), effort, mask)
            if np.count_nonzero(positions >= 0) >= enough or effort >= most:
                return np.unique(positions[positions >= 0])
            effort = min(2 * effort if self.trained is not None else most, most)

    def search(self, queries: Vectors, count: int, effort: int, mask: Mask | None = None) -> Found:
        """The `count` that the index takes for the nearest: its scores, and positions, [queries, count], in no order.
        queries: float32 [n, dim]."""
        if count < 1:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        cells = None if self.trained is None else self.trained.quantizer.search(queries, effort)
        threads = _threads() if len(self.segments) > 1 else None
        found = (threads.map if threads else map)(
            lambda segment: segment.search(queries, count, effort, cells, mask), self.segments
        )
        scores, positions = (np.hstack(list(of_segments)) for of_segments in zip(*found, strict=True))
        if positions.shape[1] == count:
            return scores, positions
        scores = np.where(positions >= 0, scores, -np.inf)
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        return np.take_along_axis(scores, best, 1), np.take_along_axis(positions, best, 1)


def read_card(output: Output) -> Card | None:
    """The card of a finished index; None where there is none."""
    content = output.read(CARD)
    return None if content is None else Card(**json.loads(content))


def more_than(kind: IndexKind, k: int) -> int:
    """Candidates that are compared exactly for `k` wanted rows."""
    return _MORE[kind] * k


def _opened(output: Output, training: str, trained: Any, one: Placed) -> Any:
    path = local_path(output, vectors_path(training, one.contents.name))
    if trained is None:
        return faiss().read_index(str(path))
    index, sizes = empty_like(trained), one.contents.cells.astype(np.uint64)
    if count := int(sizes.sum()):
        lists = faiss().OnDiskInvertedLists(trained.nlist, trained.code_size, str(path))
        lists.set_all_lists_sizes(faiss().swig_ptr(sizes))
        lists.totsize, lists.read_only = count * (trained.code_size + 8), True
        lists.do_mmap()
        index.replace_invlists(lists, True)
        lists.this.disown()
        index.ntotal = count
    return index


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="segments")
