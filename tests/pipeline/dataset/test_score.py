"""Similarity, on vectors written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from clipmill.pipeline.dataset.score import similarity

HALF = np.array([0.5, 0.5, 0.5, 0.5], dtype=np.float32)
FIRST = np.array([1, 0, 0, 0], dtype=np.float32)


def test_similarity_is_the_cosine() -> None:
    assert similarity(HALF, FIRST) == 0.5
    assert similarity(HALF, HALF) == 1.0
    assert similarity(FIRST, -FIRST) == -1.0
    assert similarity(FIRST, FIRST[::-1]) == 0.0


def test_similarity_is_symmetric() -> None:
    random = np.random.default_rng(0)
    one, other = (v / np.linalg.norm(v) for v in random.standard_normal((2, 512)).astype(np.float32))
    assert similarity(one, other) == pytest.approx(float(one.astype(float) @ other.astype(float)), abs=1e-6)
    assert similarity(one, other) == similarity(other, one)


def test_a_missing_side_has_no_similarity() -> None:
    assert similarity(None, FIRST) is None
    assert similarity(FIRST, None) is None
    assert similarity(None, None) is None


def test_similarity_is_a_plain_float() -> None:
    assert type(similarity(HALF, FIRST)) is float
