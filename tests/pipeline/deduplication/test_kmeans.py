"""Vectors into cells: samples, centroids, the nearest of them."""

from __future__ import annotations

import numpy as np
import pytest
from clipmill.pipeline.deduplication import kmeans
from clipmill.pipeline.deduplication.kmeans import assign, sample, train, unit
from hypothesis import given
from hypothesis import strategies as st


def clustered(cells: int, each: int, dim: int = 32, spread: float = 0.02, seed: int = 0) -> np.ndarray:
    """float32 [cells * each, dim] of length one, around `cells` random directions, one after the other."""
    random = np.random.default_rng(seed)
    centres = unit(random.standard_normal((cells, dim)).astype(np.float32))
    noise = random.standard_normal((cells * each, dim)).astype(np.float32)
    return unit(np.repeat(centres, each, axis=0) + spread * noise)


def test_clusters_that_are_apart_are_found() -> None:
    vectors = clustered(8, 50)
    centroids = train(vectors, 8, seed=3)
    cells = assign(vectors, centroids)[0][:, 0].reshape(8, 50)
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    # as k-means goes, one cluster may have two centroids and two may share one; the rest is right
    assert sum(len(set(row)) == 1 for row in cells) >= 6


def test_the_same_seed_gives_the_same_centroids() -> None:
    vectors = clustered(5, 40)
    assert np.array_equal(train(vectors, 7, seed=1), train(vectors, 7, seed=1))
    assert not np.array_equal(train(vectors, 7, seed=1), train(vectors, 7, seed=2))


def test_no_cell_stays_empty_where_vectors_differ() -> None:
    vectors = np.concatenate([np.repeat(clustered(1, 1), 60, axis=0), clustered(9, 1, seed=4)])
    centroids = train(vectors, 10, seed=0)
    assert set(assign(vectors, centroids)[0][:, 0]) == set(range(10))


def test_there_are_no_more_cells_than_vectors() -> None:
    assert train(clustered(3, 1), 10).shape == (3, 32)


@pytest.mark.parametrize("block", [1, 100, 1 << 26])
def test_the_nearest_centroids_are_those_of_a_full_sort(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "_BLOCK", block)
    vectors, centroids = clustered(6, 20, spread=0.5), clustered(11, 1, seed=9)
    cells, cosines = assign(vectors, centroids, probes=3)
    expected = np.argsort(-(vectors @ centroids.T), axis=1)[:, :3]
    assert np.array_equal(cells, expected)
    assert np.allclose(cosines, np.take_along_axis(vectors @ centroids.T, expected, axis=1), atol=1e-6)


def test_nothing_has_no_cells() -> None:
    cells, cosines = assign(np.empty((0, 32), np.float32), clustered(2, 1), probes=5)
    assert cells.shape == cosines.shape == (0, 2)


@given(st.integers(1, 40), st.lists(st.integers(0, 12), max_size=8))
def test_a_sample_does_not_depend_on_the_batches(most: int, sizes: list[int]) -> None:
    rows = np.arange(sum(sizes), dtype=np.float32)[:, None]
    batches = np.split(rows, np.cumsum(sizes)[:-1]) if sizes else []
    found = sample(batches, most, seed=5)
    assert len(found) == min(most, len(rows))
    assert np.array_equal(found.ravel(), np.unique(found))  # in order, each once
    if sizes:
        assert np.array_equal(found, sample([rows], most, seed=5))


def test_every_vector_is_as_likely_to_be_sampled() -> None:
    rows = np.arange(20, dtype=np.float32)[:, None]
    taken = np.concatenate([sample(np.split(rows, 4), 5, seed=seed).ravel() for seed in range(400)])
    counts = np.bincount(taken.astype(int), minlength=20)
    assert counts.min() > 60 and counts.max() < 140  # 100 expected, four standard deviations
