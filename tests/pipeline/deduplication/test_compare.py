"""Pairs of near vectors: exact at the threshold, also where half precision looks for them first, as on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clipmill.pipeline.deduplication import compare
from clipmill.pipeline.deduplication.compare import HALF_ERROR, Block, near
from hypothesis import given, settings
from hypothesis import strategies as st
from made import unit_vectors

NOWHERE = np.zeros(2, np.int64)


def around(threshold: float, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two times so many vectors, whose cosines of the same row lie within 0.003 of the threshold."""
    left, other = unit_vectors(1, rows, dim), unit_vectors(2, rows, dim)
    other -= (other * left).sum(axis=1, keepdims=True) * left
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosines = threshold + np.linspace(-0.003, 0.003, rows, dtype=np.float32)[:, None]
    return left, (cosines * left + np.sqrt(1 - cosines**2) * other).astype(np.float32)


def block(vectors: np.ndarray, half: bool) -> Block:
    exact = torch.from_numpy(vectors)
    return Block(exact, exact.half() if half else None)


@pytest.mark.parametrize("checked", [7, 1 << 16])
@pytest.mark.parametrize("dim", [32, 512])
def test_half_precision_finds_what_float32_finds(dim: int, checked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_CHECKED", checked)
    left, right = around(0.95, 400, dim)
    apart, origin = np.arange(800), np.array([0, 400])
    exact = near(block(left, False), block(right, False), 0.95, origin, apart)
    assert 150 < len(exact) < 250
    assert np.array_equal(near(block(left, True), block(right, True), 0.95, origin, apart), exact)


def test_where_nearly_all_are_near_they_are_not_checked_one_by_one() -> None:
    vectors = np.repeat(unit_vectors(1, 1, 8), 50, axis=0)
    pairs = near(block(vectors, True), block(vectors, True), 0.999, NOWHERE, np.arange(50))
    assert len(pairs) == 50 * 49 // 2


def test_what_is_connected_already_is_not_told_again() -> None:
    vectors = np.repeat(unit_vectors(1, 1, 8), 4, axis=0)
    first = np.array([0, 0, 2, 2])
    pairs = near(block(vectors, False), block(vectors, False), 0.999, NOWHERE, first)
    assert pairs.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 64, 512, 1024]), st.floats(0, 8))
def test_the_error_of_half_precision_is_bounded(seed: int, dim: int, skew: float) -> None:
    """Also for vectors with a few large values and many tiny ones, as far as half precision has numbers."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((32, dim)) * np.exp(-skew * random.random(dim))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    exact, half = torch.from_numpy(vectors), torch.from_numpy(vectors).half()
    assert (exact @ exact.T - (half @ half.T).float()).abs().max() < HALF_ERROR
