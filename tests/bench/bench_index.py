"""An index beside FAISS used by hand on the same vectors, a part at a time: building, size, recall and queries; and
growing by a hundredth, beside making the grown index anew. CLIPMILL_BENCH_ROWS: another number of rows; 9,990,000 take
about 75 minutes of two cores with AVX-512, 16 GB of memory and 40 GB on disk. Rows are printed as they come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import benchkit
import numpy as np
from bench_search import COLUMN, Clusters, K
from benchkit import Row, Spread, compared, expect, in_turn
from clipmill.clipmodel import load
from clipmill.pipeline import IndexJob, IndexSummary, index
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.records import Vectors
from clipmill.pipeline.searching import faiss_library
from clipmill.pipeline.searching.ann import Index
from clipmill.pipeline.searching.ann_cells import sample_size
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from clipmill.pipeline.searching.search import Space
from searched import Parts, dataset_of

faiss = faiss_library.faiss()  # by hand it computes with the same instructions
_QUERIES = 200  # that no index was trained on
_ROW_GROUP = 4096  # rows, as `embed` writes them


@dataclass(frozen=True)
class _Rows:
    """Vectors of `Clusters`, in parts; the last part is a hundredth of the others together."""

    clusters: Clusters
    sizes: tuple[int, ...]

    def columns_of(self, number: int) -> dict[str, Any]:
        return {COLUMN: self.clusters.drawn(number, self.sizes[number])}

    def vectors(self, parts: int) -> Iterator[Vectors]:
        """float32 [rows, dim]: those of each of the first parts, as they are stored."""
        for number, size in enumerate(self.sizes[:parts]):
            yield self.clusters.drawn(number, size).astype(np.float16).astype(np.float32)


def measure(quick: bool) -> list[Row]:
    rows = int(os.environ.get("CLIPMILL_BENCH_ROWS", 2_000 if quick else 1_000_000))
    loaded = load("tiny" if quick else "ViT-B-32=random:0")
    clusters = Clusters.made(20 if quick else 1_000, loaded.card.config.embed_dim)
    made = _Rows(clusters, (*[rows // 20] * 20, rows // 100))
    queries = clusters.drawn(1 << 20, _QUERIES)
    with dataset_of(Parts(21, made.columns_of), loaded, _ROW_GROUP) as (folder, dataset):
        last, aside = folder / "in" / "data" / dataset.parts[-1], folder / "last"
        last.rename(aside)
        job = IndexJob(dataset.url, f"{folder}/index", kind="ivf")
        first = index(job)
        found = list(map(_printed, _against_faiss(first, made, queries, 3 if quick else 7)))
        aside.rename(last)
        return [*found, *map(_printed, _growing(job, first, made, queries))]


def _printed(row: Row) -> Row:
    print(row, flush=True)
    return row


def _against_faiss(first: IndexSummary, made: _Rows, queries: Vectors, rounds: int) -> Iterator[Row]:
    card, path = first.card, Path(first.out).with_name("by_hand.faiss")
    hand, took = _by_hand(made, card.nlist, path)
    count, dim = hand.ntotal, hand.d
    what = f"{count:,} x {dim}, ivf of {card.nlist:,} cells"
    ours, theirs = count / first.seconds, count / took
    yield _beside(f"building an index of {what}", "vectors/s", ours, theirs, f"{first.seconds:,.0f} s; {took:,.0f} s")
    yield _beside("bytes a vector in its files", "B", _size(first.out) / count, path.stat().st_size / count)
    space = _space(first)
    hand.nprobe = card.effort
    truth = _truth(made.vectors(20), queries)
    turn = iter(np.resize(queries, (100_000, queries.shape[1])))
    slow = _rate(lambda: space.nearest(next(turn), K), 5)
    yield Row("queries by the index, from the parts alone", "queries/s", Spread(slow, slow, slow))
    _ = space.dense
    mine = _recall(truth, queries, lambda query: space.nearest(query, K)[0])
    other = _recall(truth, queries, lambda query: hand.search(query[None], K)[1][0])
    note = f"nprobe {card.effort}; measured by the build: {min(card.recall.values()):.3f}"
    yield _beside(f"recall@{K}, {_QUERIES} queries it never saw", "share", mine, other, note)
    rates = in_turn(
        {
            "ours": lambda: _rate(lambda: space.nearest(next(turn), K), 200),
            "FAISS by hand, not compared exactly": lambda: _rate(lambda: hand.search(next(turn)[None], K), 200),
        },
        rounds,
    )
    yield compared("queries by the index, with a copy of the embeddings", "queries/s", rates)


def _by_hand(made: _Rows, nlist: int, path: Path) -> tuple[Any, float]:
    """FAISS's index of the first twenty parts, written to a file, and its seconds; drawing vectors is not counted."""
    dim, random = made.clusters.topics.shape[1], np.random.default_rng(0)
    each = -(-sample_size(nlist, dim) // 20)
    sample = np.concatenate([vectors[random.permutation(len(vectors))[:each]] for vectors in made.vectors(20)])
    hand = faiss.index_factory(dim, f"IVF{nlist},SQ8", faiss.METRIC_INNER_PRODUCT)
    hand.cp.min_points_per_centroid = 1
    took = _seconds(lambda: hand.train(sample))
    took += sum(_seconds(lambda some=vectors: hand.add(some)) for vectors in made.vectors(20))  # type: ignore[misc]
    return hand, took + _seconds(lambda: faiss.write_index(hand, str(path)))


def _growing(job: IndexJob, first: IndexSummary, made: _Rows, queries: Vectors) -> Iterator[Row]:
    truth = _truth(made.vectors(21), queries)
    grown = index(job)
    expect(grown.card.training == first.card.training, "index: trained anew for a hundredth more")
    in_segments = _recall(truth, queries, lambda query, space=_copied(grown): space.nearest(query, K)[0])
    anew = index(replace(job, overwrite=True))
    whole = _recall(truth, queries, lambda query, space=_copied(anew): space.nearest(query, K)[0])
    note = f"{grown.seconds:.1f} s of {first.seconds:,.0f} s"
    yield _single("a hundredth more rows: time of the first build", "share", grown.seconds / first.seconds, note)
    note = f"{whole:.3f} made anew; nprobe {grown.card.effort} and {anew.card.effort}"
    yield _single(f"recall@{K} when grown", "share", in_segments, note)


def _space(summary: IndexSummary) -> Space:
    numbered = NumberedRows.of(Dataset.open(summary.dataset))
    return Space.of(numbered, COLUMN, Index.open(summary.out, numbered, COLUMN))


def _copied(summary: IndexSummary) -> Space:
    """With a copy of the embeddings to compare candidates in."""
    space = _space(summary)
    _ = space.dense
    return space


def _truth(parts: Iterator[Vectors], queries: Vectors) -> Any:
    """int64 [queries, K]"""
    flat = faiss.IndexFlatIP(queries.shape[1])
    best, start = faiss.ResultHeap(len(queries), K, keep_max=True), 0
    for vectors in parts:
        flat.reset()
        flat.add(vectors)
        scores, rows = flat.search(queries, min(K, flat.ntotal))
        best.add_result(scores, rows + start)
        start += len(vectors)
    best.finalize()
    return best.I


def _recall(truth: Any, queries: Vectors, search: Callable[[Any], Any]) -> float:
    found = (search(query) for query in queries)
    return float(np.mean([len(np.intersect1d(*both)) / K for both in zip(truth, found, strict=True)]))


def _size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _rate(call: Callable[[], object], times: int) -> float:
    return times / _seconds(lambda: [call() for _ in range(times)])


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _single(what: str, unit: str, value: float, note: str = "") -> Row:
    return Row(what, unit, Spread(value, value, value), note=note)


def _beside(what: str, unit: str, ours: float, theirs: float, note: str = "") -> Row:
    share = ours / theirs
    limit, of_it = Spread(theirs, theirs, theirs), Spread(share, share, share)
    return Row(what, unit, Spread(ours, ours, ours), limit, "FAISS by hand", of_it, note=note)


if __name__ == "__main__":
    benchkit.main(measure)
