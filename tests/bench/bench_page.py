"""The web page over ten million rows: how long it takes to open, and each thing that people do there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import benchkit
import numpy as np
from benchkit import Row, Spread, expect
from clipmill.clipmodel import load
from clipmill.jobs.web.site import Site
from clipmill.jobs.web.view import Query, View
from clipmill.pipeline import ServeJob
from clipmill.pipeline.searching.catalogue import Condition
from searched import Action, Parts, actions, dataset_of, unit_vectors

_WORDS = "a red blue green star fish house tree sky of the on with two by at"
_REST = 1.0  # seconds between two actions: a filter's process starts anew after each filter


def measure(quick: bool) -> list[Row]:
    loaded = load("tiny")
    words = _WORDS.split()
    parts, rows = (3, 2_000) if quick else (100, 100_000)
    vectors = unit_vectors(0, rows, loaded.card.config.embed_dim)

    def columns_of(number: int) -> dict[str, Any]:
        """All parts have the same vectors and captions' words, in another order."""
        random = np.random.default_rng(number)
        order = random.permutation(rows)
        return {
            "image_embedding": vectors[order],
            "similarity": random.normal(0.25, 0.05, rows).astype(np.float32),
            "width": random.integers(64, 2048, rows).astype(np.int32),
            "caption": [f"{words[i % 16]} {words[i // 16 % 16]} {i} of part {number}" for i in order.tolist()],
            "url": [f"https://site{i % 997}.example/{number}/{i}.jpg" for i in order.tolist()],
        }

    with dataset_of(Parts(parts, columns_of), loaded) as (_, dataset):
        job = ServeJob(dataset.url, model="tiny")
        first = _opened(job, "the first time, while embeddings are copied")
        with Site.open(job) as site:
            _copied(site)
        return [first, _opened(job, "later"), *_actions(job, 1 if quick else 5)]


def _opened(job: ServeJob, when: str) -> Row:
    began = time.perf_counter()
    with Site.open(job) as site:
        expect(len(site.search(View(), 0, 48)["hits"]) == 48, "the page shows no rows")
        took = time.perf_counter() - began
        return Row(f"the page opens over {site.rows.rows:,} rows, {when}", "s", Spread(took, took, took))


def _copied(site: Site) -> None:
    while not site.spaces.ready("image"):
        time.sleep(0.1)


def _actions(job: ServeJob, rounds: int) -> Iterator[Row]:
    with Site.open(job) as site:
        _copied(site)
        star = Query(text="a red star")
        site.search(View(star), 0, 48)
        asked: dict[str, Action] = {
            "browse": lambda n: site.search(View(), 48 * n, 48),
            "sort by similarity": lambda n: site.search(View(order="similarity"), n, 48),
            "a histogram": lambda n: site.histogram(View(at_least=n / 1000)),
            "a slider's move": lambda n: site.threshold(View(), 0.25 + n / 1000),
            "a filter": lambda n: site.search(View(condition=Condition(f"width >= {512 + n}")), 0, 48),
            "a filter of text": lambda n: site.search(View(condition=Condition(f"caption ILIKE '%fish {n}%'")), 0, 48),
            "a search": lambda n: site.search(View(Query(text=f"a blue star {n}")), 0, 48),
            "the next page of a search": lambda n: site.search(View(star), 48 * n, 48),
            "a search above a threshold on the match": lambda n: site.search(
                View(star, score="match", at_least=0.1 + n / 1000), 0, 48
            ),
            "a slider's move on the match": lambda n: site.threshold(View(star, score="match"), 0.1 + n / 1000),
            "the map": lambda n: site.map(View(star, at_least=n / 1000)),
        }
        yield from actions(site, asked, rounds, 0 if benchkit.is_quick() else _REST)


if __name__ == "__main__":
    benchkit.main(measure)
