"""Sketches: no cosine exceeds its bound, whatever the vectors are and whatever the axes were found from."""

from __future__ import annotations

import numpy as np
import pytest
from clipmill.pipeline.deduplication.compare import as_compared
from clipmill.pipeline.deduplication.kmeans import unit
from clipmill.pipeline.deduplication.sketch import Axes, columns
from hypothesis import given, settings
from hypothesis import strategies as st
from made import unit_vectors

DIMS = [2, 3, 8, 63, 64, 65, 200]
KINDS = ["isotropic", "clusters", "duplicates", "low rank", "steep", "one mean", "spikes", "nothing"]


def drawn(kind: str, seed: int, rows: int, dim: int) -> np.ndarray:
    """float32 [rows, dim] of length one, as float16 stores them."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, dim))
    if kind == "clusters":
        vectors = 5 * random.standard_normal((3, dim))[random.integers(0, 3, rows)] + vectors
    elif kind == "duplicates":
        vectors = vectors[random.integers(0, min(3, max(rows, 1)), rows)]
    elif kind == "low rank":
        vectors = random.standard_normal((rows, 2)) @ random.standard_normal((2, dim))
    elif kind == "steep":
        vectors *= np.exp(-8 * np.arange(dim) / dim)
    elif kind == "one mean":
        vectors += 6 * random.standard_normal(dim)
    elif kind == "spikes":
        vectors[:, 0] += 50 * random.standard_normal(rows)
    elif kind == "nothing":
        vectors *= 0
    return as_compared(unit(vectors.astype(np.float32)).astype(np.float16))


def sketched(axes: Axes, vectors: np.ndarray) -> np.ndarray:
    sketches = np.zeros(len(vectors), axes.record)
    for name, values in axes.fields(vectors).items():
        sketches[name] = values
    return sketches


def bounds_of(axes: Axes, vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    return (axes.seekers(vectors) @ columns(sketched(axes, others)).T).cpu().numpy()


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(DIMS), st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(0, 40)
)
def test_no_cosine_exceeds_its_bound(seed: int, dim: int, kind: str, sample: str, sampled: int) -> None:
    """Also of vectors along which no axis lies, since the sample had none like them."""
    axes = Axes.of(drawn(sample, seed, sampled, dim))
    vectors = drawn(kind, seed + 1, 60, dim)
    vectors[:5] = as_compared(drawn(kind, seed + 2, 5, dim) + 4 * vectors[5:10])  # near ones
    bounds = bounds_of(axes, vectors, vectors)
    assert (vectors @ vectors.T <= bounds + axes.error).all()
    assert (vectors.astype(np.float64) @ vectors.T.astype(np.float64) <= bounds + axes.error).all()


@pytest.mark.parametrize("dim", [8, 64, 512])
def test_where_axes_hold_all_of_a_vector_the_bound_is_nearly_the_cosine(dim: int) -> None:
    vectors = as_compared(unit_vectors(1, 30, 40) @ np.eye(40, dim, dtype=np.float32))
    axes = Axes.of(vectors)
    bounds = bounds_of(axes, vectors, vectors)
    assert np.abs(bounds - vectors @ vectors.T).max() < 0.02


def test_a_sketch_is_an_eighth_of_a_record_and_axes_are_read_as_they_were_written() -> None:
    axes = Axes.of(unit_vectors(1, 100, 512))
    assert axes.record.itemsize == 136
    again = Axes.read(axes.written())
    assert np.array_equal(again.directions, axes.directions) and np.array_equal(again.steps, axes.steps)


def test_of_a_few_vectors_among_many_others_a_bound_says_which() -> None:
    """Directions without any structure, the worst case: of cosines about nothing, hardly any bound reaches 0.95."""
    axes, vectors = Axes.of(unit_vectors(1, 2000, 512)), as_compared(unit_vectors(2, 2000, 512))
    bounds = bounds_of(axes, vectors[:50], vectors)
    assert (bounds >= 0.95 - axes.error).sum() <= 60 and (bounds[np.arange(50), np.arange(50)] >= 1 - axes.error).all()
