"""Exact search over an array: the order of a full sort, whatever the block sizes, the mask and the number type."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from clipmill.pipeline.searching import scan
from clipmill.pipeline.searching.scan import best, similarities
from hypothesis import given, settings
from hypothesis import strategies as st
from made import unit_vectors

DIM = 8


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks, and several blocks in each."""
    monkeypatch.setattr(scan, "_TASK", 64)
    monkeypatch.setattr(scan, "_BLOCK", 24 * DIM)


def by_full_sort(vectors: Any, query: Any, k: int, allowed: Any) -> list[int]:
    """Of equal scores the lower row; equal rows score equally here by construction."""
    scores = {
        row: float(np.dot(vectors[row].astype(np.float64), query.astype(np.float64))) for row in range(len(vectors))
    }
    return sorted((row for row in scores if allowed[row]), key=lambda row: (-scores[row], row))[:k]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    distinct=st.integers(1, 40),
    rows=st.integers(0, 300),
    k=st.integers(1, 50),
    share=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    dtype=st.sampled_from([np.float16, np.float32]),
)
def test_the_best_are_those_of_a_full_sort_with_many_ties(
    seed: int, distinct: int, rows: int, k: int, share: float, dtype: Any
) -> None:
    random = np.random.default_rng(seed)
    vectors = unit_vectors(seed, distinct, DIM)[random.integers(0, distinct, rows)].astype(dtype)
    query, allowed = unit_vectors(seed + 1, 1, DIM), random.random(rows) < share
    ((found, scores),) = best(vectors, query, k, allowed)
    assert found.tolist() == by_full_sort(vectors, query[0], k, allowed)
    assert np.allclose(scores, vectors[found].astype(np.float32) @ query[0], atol=1e-6)


def test_several_queries_find_what_each_finds_alone() -> None:
    vectors, queries = unit_vectors(1, 500, DIM).astype(np.float16), unit_vectors(2, 7, DIM)
    allowed = np.ones(500, np.bool_)
    for query, (rows, scores) in zip(queries, best(vectors, queries, 5, allowed), strict=True):
        ((alone, alike),) = best(vectors, query[None], 5, allowed)
        assert rows.tolist() == alone.tolist() and np.allclose(scores, alike, atol=1e-6)


def test_equal_rows_score_equally_wherever_they_are() -> None:
    vectors = np.repeat(unit_vectors(3, 1, DIM), 211, axis=0).astype(np.float16)
    assert len(set(similarities(vectors, unit_vectors(4, 1, DIM))[:, 0].tolist())) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("queries", [1, 3])
def test_vectors_with_numbers_that_are_none_are_never_found(dtype: Any, queries: int) -> None:
    vectors = unit_vectors(9, 300, DIM).astype(dtype)
    vectors[::5, 2], vectors[1::5, 3], vectors[2::50] = np.nan, np.inf, -np.inf
    allowed, sound = np.arange(300) % 2 == 0, np.isfinite(vectors).all(axis=1)
    asked = np.concatenate([unit_vectors(10, queries - 1, DIM), np.eye(1, DIM, dtype=np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for query, (few, _), (every, scores) in zip(
            asked, best(vectors, asked, 7, allowed), best(vectors, asked, 300, allowed), strict=True
        ):
            assert every.tolist() == by_full_sort(np.nan_to_num(vectors), query, 300, allowed & sound)
            assert few.tolist() == every[:7].tolist() and np.isfinite(scores).all()


def test_what_is_mapped_from_a_read_only_file_is_searched_without_a_warning(tmp_path: Any) -> None:
    np.save(tmp_path / "vectors.npy", unit_vectors(5, 200, DIM).astype(np.float16))
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(best(vectors, unit_vectors(6, 2, DIM), 3, np.ones(200, np.bool_))) == 2


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    best(unit_vectors(7, 10, DIM), unit_vectors(8, 1, DIM), 3, np.ones(10, np.bool_))
    assert torch.get_num_threads() == before
