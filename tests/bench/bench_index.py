"""An index beside FAISS used by hand on the same vectors in memory: building, size, recall and queries; and growing by
a hundredth, beside making the grown index anew. CLIPMILL_BENCH_ROWS: another number of rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import benchkit
import faiss
import numpy as np
from bench_search import COLUMN, Clusters, K
from benchkit import Row, Spread, compared, expect, in_turn
from clipmill.clipmodel import load
from clipmill.pipeline import IndexJob, IndexSummary, index
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.records import Vectors
from clipmill.pipeline.searching.ann import Index
from clipmill.pipeline.searching.ann_cells import sample_size
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from clipmill.pipeline.searching.search import Space
from searched import Parts, dataset_of

_QUERIES = 200  # that no index was trained on
_ROW_GROUP = 4096  # rows, as `embed` writes them


@dataclass(frozen=True)
class _Rows:
    """Vectors of `Clusters`, in parts; the last part is a hundredth of the others together."""

    clusters: Clusters
    sizes: tuple[int, ...]

    def columns_of(self, number: int) -> dict[str, Any]:
        return {COLUMN: self.clusters.drawn(number, self.sizes[number])}

    def vectors(self, parts: int) -> Vectors:
        """float32: those of the first parts, as they are stored."""
        vectors = np.empty((sum(self.sizes[:parts]), self.clusters.topics.shape[1]), np.float32)
        at = 0
        for number, size in enumerate(self.sizes[:parts]):
            vectors[at : at + size] = self.clusters.drawn(number, size).astype(np.float16)
            at += size
        return vectors


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
        first, vectors = index(job), made.vectors(20)
        found = list(_against_faiss(first, vectors, queries, 3 if quick else 7))
        aside.rename(last)
        return [*found, *_growing(job, first, made.vectors(21), queries)]


def _against_faiss(first: IndexSummary, vectors: Vectors, queries: Vectors, rounds: int) -> Iterator[Row]:
    card, path = first.card, Path(first.out).with_name("by_hand.faiss")
    began = time.perf_counter()
    hand = faiss.index_factory(vectors.shape[1], f"IVF{card.nlist},SQ8", faiss.METRIC_INNER_PRODUCT)
    hand.cp.min_points_per_centroid = 1
    chosen = np.random.default_rng(0).permutation(len(vectors))[: sample_size(card.nlist, vectors.shape[1])]
    hand.train(vectors[chosen])
    hand.add(vectors)
    faiss.write_index(hand, str(path))
    took = time.perf_counter() - began
    what = f"{len(vectors):,} x {vectors.shape[1]}, ivf of {card.nlist:,} cells"
    ours, theirs = len(vectors) / first.seconds, len(vectors) / took
    yield _beside(f"building an index of {what}", "vectors/s", ours, theirs, f"{first.seconds:,.0f} s; {took:,.0f} s")
    yield _beside(
        "bytes a vector in its files", "B", _size(first.out) / len(vectors), path.stat().st_size / len(vectors)
    )
    space = _space(first)
    hand.nprobe = card.effort
    truth = _truth(vectors, queries)
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


def _growing(job: IndexJob, first: IndexSummary, vectors: Vectors, queries: Vectors) -> Iterator[Row]:
    truth = _truth(vectors, queries)
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


def _truth(vectors: Vectors, queries: Vectors) -> Any:
    """int64 [queries, K]"""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    best = faiss.ResultHeap(len(queries), K, keep_max=True)
    for start in range(0, len(vectors), 1 << 16):
        flat.reset()
        flat.add(vectors[start : start + (1 << 16)])
        scores, rows = flat.search(queries, min(K, flat.ntotal))
        best.add_result(scores, rows + start)
    best.finalize()
    return best.I


def _recall(truth: Any, queries: Vectors, search: Callable[[Any], Any]) -> float:
    found = (search(query) for query in queries)
    return float(np.mean([len(np.intersect1d(*both)) / K for both in zip(truth, found, strict=True)]))


def _size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _rate(call: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return times / (time.perf_counter() - began)


def _single(what: str, unit: str, value: float, note: str = "") -> Row:
    return Row(what, unit, Spread(value, value, value), note=note)


def _beside(what: str, unit: str, ours: float, theirs: float, note: str = "") -> Row:
    share = ours / theirs
    limit, of_it = Spread(theirs, theirs, theirs), Spread(share, share, share)
    return Row(what, unit, Spread(ours, ours, ours), limit, "FAISS by hand", of_it, note=note)


if __name__ == "__main__":
    benchkit.main(measure)
