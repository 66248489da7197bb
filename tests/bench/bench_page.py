"""The web page over ten million rows: how long it takes to open, and each thing that people do there."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import benchkit
import numpy as np
from benchkit import Row, Spread, expect
from clipmill.clipmodel import load
from clipmill.jobs.web.site import Site
from clipmill.jobs.web.view import Query, View
from clipmill.pipeline import ServeJob
from clipmill.pipeline.records import Vectors
from clipmill.pipeline.searching.catalogue import Condition

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kit"))
from made import make_dataset, unit_vectors

_WORDS = (
    "a",
    "red",
    "blue",
    "green",
    "star",
    "fish",
    "house",
    "tree",
    "sky",
    "of",
    "the",
    "on",
    "with",
    "two",
    "by",
    "at",
)
_REST = 2.0  # seconds between two actions: a filter's process starts anew after each filter


@dataclass(frozen=True)
class Parts(Sequence[Any]):
    """Made when they are asked for. All have the same vectors and captions' words, in another order."""

    parts: int
    rows: int
    dim: int

    def __len__(self) -> int:
        return self.parts

    def __getitem__(self, number: Any) -> dict[str, Any]:
        if number >= self.parts:
            raise IndexError
        random = np.random.default_rng(number)
        order = random.permutation(self.rows)
        return {
            "image_embedding": self._vectors[order],
            "similarity": random.normal(0.25, 0.05, self.rows).astype(np.float32),
            "width": random.integers(64, 2048, self.rows).astype(np.int32),
            "caption": [f"{_WORDS[i % 16]} {_WORDS[i // 16 % 16]} {i} of part {number}" for i in order.tolist()],
            "url": [f"https://site{i % 997}.example/{number}/{i}.jpg" for i in order.tolist()],
        }

    @cached_property
    def _vectors(self) -> Vectors:
        return unit_vectors(0, self.rows, self.dim)


def measure(quick: bool) -> list[Row]:
    card = load("tiny").card
    parts = Parts(*((3, 2_000) if quick else (100, 100_000)), card.config.embed_dim)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIPMILL_CACHE"] = f"{folder}/cache"
        dataset = make_dataset(
            Path(folder) / "in", parts, dim=parts.dim, embeds="images", weights_sha256=card.weights_sha256
        )
        job = ServeJob(dataset.url, model="tiny")
        first = _opened(job, "the first time, while embeddings are copied")
        with Site.open(job) as site:
            _copied(site)
        return [first, _opened(job, "later"), *_actions(job, 1 if quick else 5)]


def _opened(job: ServeJob, when: str) -> Row:
    began = time.perf_counter()
    with Site.open(job) as site:
        seconds = time.perf_counter() - began
        expect(len(site.search(View(), 0, 48)["hits"]) == 48, "the page shows no rows")
        return Row(f"the page opens over {site.rows.rows:,} rows, {when}", "s", Spread(seconds, seconds, seconds))


def _copied(site: Site) -> None:
    while not site.spaces.ready("image"):
        time.sleep(0.1)


def _actions(job: ServeJob, rounds: int) -> Iterator[Row]:
    with Site.open(job) as site:
        _copied(site)
        star = Query(text="a red star")
        site.search(View(star), 0, 48)
        asked: dict[str, Callable[[int], Any]] = {
            "browse": lambda n: site.search(View(), 48 * n, 48),
            "sort by similarity": lambda n: site.search(View(order="similarity"), n, 48),
            "a histogram": lambda n: site.histogram(View(at_least=n / 1000)),
            "a slider's move": lambda n: site.threshold(View(), 0.25 + n / 1000),
            "a filter": lambda n: site.search(View(condition=Condition(f"width >= {512 + n}")), 0, 48),
            "a search": lambda n: site.search(View(Query(text=f"a blue star {n}")), 0, 48),
            "the next page of a search": lambda n: site.search(View(star), 48 * n, 48),
            "a search above a threshold on the match": lambda n: site.search(
                View(star, score="match", at_least=0.1 + n / 1000), 0, 48
            ),
            "a slider's move on the match": lambda n: site.threshold(View(star, score="match"), 0.1 + n / 1000),
            "the map": lambda n: site.map(View(star, at_least=n / 1000)),
        }
        for name, ask in asked.items():
            times = [_seconds(lambda ask=ask, n=n: ask(n)) for n in range(rounds + 1)][1:]  # type: ignore[misc]
            yield Row(f"the page: {name}, {site.rows.rows:,} rows", "s", Spread.of(times))


def _seconds(call: Callable[[], object]) -> float:
    time.sleep(0 if benchkit.is_quick() else _REST)
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    benchkit.main(measure)
