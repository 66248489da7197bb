"""Exact search against NumPy over the same rows in memory, the first search against merely reading the column, an
index's recall and time against exact search, and the web page over the same rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchkit
import numpy as np
import pyarrow.parquet as pq
from benchkit import Row, Spread, compared, expect, in_turn
from clipmill.clipmodel import load
from clipmill.jobs.web.site import Site
from clipmill.jobs.web.view import Query, View
from clipmill.pipeline import IndexJob, ServeJob, index
from clipmill.pipeline.records import Vectors
from clipmill.pipeline.searching.ann import Index
from clipmill.pipeline.searching.catalogue import Condition
from clipmill.pipeline.searching.dense import Dense, dense
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from clipmill.pipeline.searching.search import Space
from searched import Action, Parts, actions, dataset_of, seconds

K = 10
QUERIES = 200  # of the index's recall
COLUMN = "image_embedding"
_REST = 0.3  # seconds in which the threads of NumPy's library stop to wait for more, which takes a core


@dataclass(frozen=True)
class Clusters:
    """Vectors as embeddings are: they share a direction; topics have sizes that fall as 1/rank; within a topic they
    vary along some directions much more than along others (the spectrum falls as 1/rank, too)."""

    topics: Vectors  # [topics, dim]

    @classmethod
    def made(cls, topics: int, dim: int) -> Clusters:
        random = np.random.default_rng(0)
        return cls(0.5 * _unit(random.standard_normal(dim)) + 0.55 * _unit(random.standard_normal((topics, dim))))

    def drawn(self, seed: int, rows: int) -> Vectors:
        count, dim = self.topics.shape
        random = np.random.default_rng(seed)
        shares = 1 / (1 + np.arange(count))
        which = random.choice(count, rows, p=shares / shares.sum())
        spectrum = 1 / np.sqrt(1 + np.arange(dim, dtype=np.float32))
        own = random.standard_normal((rows, dim), dtype=np.float32) * spectrum / np.linalg.norm(spectrum)
        return _unit(self.topics[which] + 0.65 * own)


def _unit(vectors: Any) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def measure(quick: bool) -> list[Row]:
    count, rows, model = (3, 2_000, "tiny") if quick else (20, 50_000, "ViT-B-32=random:0")
    loaded = load(model)
    clusters = Clusters.made(20 if quick else 1_000, loaded.card.config.embed_dim)

    def columns_of(number: int) -> dict[str, Any]:
        random = np.random.default_rng(number)
        return {
            COLUMN: clusters.drawn(number, rows),
            "similarity": random.normal(0.25, 0.05, rows).astype(np.float32),
            "width": random.integers(64, 2048, rows).astype(np.int32),
            "caption": [f"picture {row} of part {number}" for row in range(rows)],
        }

    with dataset_of(Parts(count, columns_of), loaded) as (folder, dataset):
        numbered = NumberedRows.of(dataset)
        _, first = _first(numbered, 1 if quick else 3)
        space = Space.of(numbered, COLUMN)
        warm = _warm(space, clusters.drawn(1 << 21, 30), 3 if quick else 9)
        found = list(_index(str(folder), space, clusters.drawn(1 << 20, QUERIES), quick))
        page = list(_page(ServeJob(dataset.url, model=model), 3 if quick else 9))
    return [warm, first, *found, *page]


def _first(numbered: NumberedRows, rounds: int) -> tuple[Dense, Row]:
    """Copying the embeddings and searching them, against reading the column from Parquet and leaving it at that."""
    gigabytes = len(numbered) * numbered.dataset.schema.field(COLUMN).type.list_size * 2 / 1e9
    copies: list[Dense] = []

    def ours() -> float:
        for path in Path(os.environ["CLIPMILL_CACHE"]).glob(f"search/*/{COLUMN}-*/*"):
            path.unlink()
        for path in Path(os.environ["CLIPMILL_CACHE"]).glob(f"search/*/{COLUMN}-*"):
            path.rmdir()
        began = time.perf_counter()
        copies[:] = [dense(numbered, COLUMN)]
        Space.of(numbered, COLUMN).nearest(np.asarray(copies[0].vectors[0], np.float32), K)
        return gigabytes / (time.perf_counter() - began)

    def reading() -> float:
        began = time.perf_counter()
        for part in numbered.dataset.parts:
            pq.read_table(numbered.dataset.url_of(part), columns=[COLUMN])
        return gigabytes / (time.perf_counter() - began)

    rates = in_turn({"ours": ours, "reading": reading}, rounds)
    what = f"first search of {len(numbered):,} rows, copy included"
    mine = {"ours": rates["ours"]}
    return copies[0], compared(what, "GB/s", mine, limit=rates["reading"], limit_is="the column read, no more")


def _warm(space: Space, queries: Vectors, rounds: int) -> Row:
    matrix = np.asarray(space.dense.vectors, dtype=np.float32)
    turn = iter(np.resize(queries, (4 * rounds + 4, queries.shape[1])))

    def ours() -> float:
        time.sleep(_REST)
        return _rate(lambda: space.nearest(next(turn), K), 1)

    def numpy() -> float:
        time.sleep(_REST)
        return _rate(lambda: matrix @ next(turn), 1)

    for query in queries[:3]:
        scores = matrix @ query
        positions, ours_scores = space.nearest(query, K)
        expect(np.allclose(ours_scores, np.sort(scores)[::-1][:K], atol=1e-5), "search: other scores than NumPy's")
        expect(np.allclose(scores[positions], ours_scores, atol=1e-5), "search: scores of other rows")
    rates = in_turn({"ours": ours, "numpy": numpy}, rounds)
    what = f"exact search of {len(matrix):,} x {matrix.shape[1]} float16 rows, warm"
    return compared(what, "queries/s", {"ours": rates["ours"]}, limit=rates["numpy"], limit_is="NumPy, float32 @ query")


def _index(folder: str, space: Space, queries: Vectors, quick: bool) -> Iterator[Row]:
    began = time.perf_counter()
    built = index(IndexJob(space.numbered.dataset.url, f"{folder}/index", kind="ivf"))
    took = time.perf_counter() - began
    opened = Index.open(f"{folder}/index", space.numbered, COLUMN)
    quicker = Space.of(space.numbered, COLUMN, opened)
    shares = []
    for query in queries:
        truth, _ = space.nearest(query, K)
        rows, _ = quicker.nearest(query, K)
        shares.append(len(np.intersect1d(truth, rows)) / len(truth))
    note = f"nprobe {built.card.effort} of {built.card.nlist:,}; built in {took:,.0f} s"
    yield Row(f"recall@{K} of the ivf index, {len(queries)} queries it never saw", "share", _mean(shares), note=note)
    turn = iter(np.resize(queries, (400, queries.shape[1])))
    rates = in_turn(
        {
            "ours": lambda: _rate(lambda: quicker.nearest(next(turn), K), 20),
            "exact": lambda: _rate(lambda: space.nearest(next(turn), K), 3),
        },
        3 if quick else 7,
    )
    yield compared(f"search by the ivf index, {len(space.numbered):,} rows", "queries/s", rates)


def _page(job: ServeJob, rounds: int) -> Iterator[Row]:
    with Site.open(job) as site:
        narrow = Condition("width >= 512 AND caption LIKE '%7%'")
        asked: dict[str, Action] = {
            "a search by text": lambda n: site.search(View(Query(text=f"picture {n}")), 0, 48),
            "a search by text and filter": lambda n: site.search(
                View(Query(text=f"photo {n}"), condition=Condition(f"{narrow.where} AND row > {n}")), 0, 48
            ),
            "a slider's move": lambda n: site.threshold(View(condition=narrow), 0.25 + n / 1000),
            "a histogram": lambda n: site.histogram(View(condition=Condition(f"width > {n}"))),
        }
        yield from actions(site, asked, rounds)


def _mean(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), min(values), max(values))


def _rate(call: Callable[[], object], times: int) -> float:
    return times / seconds(lambda: [call() for _ in range(times)])


if __name__ == "__main__":
    benchkit.main(measure)
