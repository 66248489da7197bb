"""The sieve before exact search: it changes nothing that is found, and leaves little to compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clipmill.pipeline.searching import scan, sieve
from clipmill.pipeline.searching.scan import best, similarities
from clipmill.pipeline.searching.sieve import Sieve
from hypothesis import given, settings
from hypothesis import strategies as st
from made import unit_vectors

DIM = 32


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow it is here; over several tasks."""
    monkeypatch.setattr(sieve, "_is_quick", lambda _: True)
    monkeypatch.setattr(scan, "_TASK", 64)


def lengths(vectors: Any) -> Any:
    found = np.linalg.norm(vectors.astype(np.float32), axis=1)
    return found[np.isfinite(found)].max(initial=0)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 400),
    k=st.integers(1, 60),
    share=st.sampled_from([0.01, 0.3, 1.0]),
    apart=st.sampled_from([0.0, 1e-4, 1e-3, 1.0]),
    scale=st.sampled_from([1e-6, 1e-2, 1.0, 50.0]),
    broken=st.sampled_from([0.0, 0.1]),
)
def test_it_changes_nothing_that_is_found(
    seed: int, rows: int, k: int, share: float, apart: float, scale: float, broken: float
) -> None:
    """Rows that are equal, that differ in the last bits, that are far apart; some with numbers that are none."""
    random = np.random.default_rng(seed)
    vectors = (scale * (unit_vectors(seed, 1, DIM) + apart * unit_vectors(seed + 1, rows, DIM))).astype(np.float16)
    vectors[random.random(rows) < broken, random.integers(DIM)] = random.choice([np.nan, np.inf, -np.inf])
    query, allowed = unit_vectors(seed + 2, 1, DIM), random.random(rows) < share
    ((plain, scores),) = best(vectors, query, k, allowed)
    ((sifted, alike),) = best(vectors, query, k, allowed, float(lengths(vectors)))
    assert sifted.tolist() == plain.tolist() and alike.tolist() == scores.tolist()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([1e-7, 1e-4, 1.0, 300.0]), dim=st.sampled_from([1, 7, 512]))
def test_a_rough_score_is_no_further_from_the_exact_one_than_it_says(seed: int, scale: float, dim: int) -> None:
    vectors = (scale * unit_vectors(seed, 200, dim)).astype(np.float16)
    query = unit_vectors(seed + 1, 1, dim)
    made = Sieve.of(vectors, query[0], float(lengths(vectors)))
    assert made is not None
    rough, exact = sieve._rough(vectors, made.half), similarities(vectors, query)[:, 0]
    assert np.abs(rough.astype(np.float64) - exact).max() <= made.error


def test_few_rows_are_left_to_compare() -> None:
    vectors, query = unit_vectors(1, 20_000, DIM).astype(np.float16), unit_vectors(2, 1, DIM)
    made = Sieve.of(vectors, query[0], 1.01)
    assert made is not None
    every = np.arange(20_000)
    scores = np.sort(similarities(vectors, query)[:, 0])[::-1]
    assert 10 <= made.passes(vectors, 10, -np.inf, every).sum() < 20
    assert 10 <= made.passes(vectors, 1000, float(scores[9]), every).sum() < 20  # of which ten are known elsewhere


def test_where_nothing_is_proven_there_is_none() -> None:
    query = unit_vectors(2, 1, DIM)[0]
    assert Sieve.of(np.zeros((3, DIM), np.float16), query, np.inf) is None
    assert Sieve.of(np.zeros((3, DIM), np.float16), query, 70_000) is None  # float16 cannot hold such scores
    assert Sieve.of(np.zeros((3, DIM), np.float32), query, 1) is None


def test_sums_in_half_precision_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def summed_in_half(stored: Any, half: Any) -> Any:
        return np.add.accumulate(stored * half.numpy(), axis=1, dtype=np.float16)[:, -1].astype(np.float32)

    monkeypatch.undo()
    monkeypatch.setattr(sieve, "_rough", summed_in_half)
    sieve._is_quick.cache_clear()
    assert not sieve._is_quick(512)
    sieve._is_quick.cache_clear()
