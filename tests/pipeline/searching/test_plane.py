"""The map's plane: where embeddings differ most, the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from clipmill.pipeline.searching.plane import drawn, plane_of


def test_the_axes_are_the_widest_directions() -> None:
    random = np.random.default_rng(0)
    spread = np.diag([0.1, 5.0, 0.1, 2.0]).astype(np.float32)
    vectors = random.standard_normal((500, 4)).astype(np.float32) @ spread + 3
    plane = plane_of(vectors)
    assert np.abs(plane.axes).argmax(axis=0).tolist() == [1, 3]
    assert plane.axes.T @ plane.axes == pytest.approx(np.eye(2), abs=1e-5)
    points = plane.points(vectors)
    assert points.shape == (500, 2) and points.dtype == np.float32
    assert points.mean(axis=0) == pytest.approx([0, 0], abs=1e-3)
    _, singular, rows = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    assert np.abs(points) == pytest.approx(np.abs((vectors - vectors.mean(axis=0)) @ rows[:2].T), abs=1e-2)
    assert points.std(axis=0) == pytest.approx(singular[:2] / np.sqrt(500), rel=1e-3)


def test_the_same_vectors_give_the_same_plane_whatever_their_order() -> None:
    vectors = np.random.default_rng(1).standard_normal((200, 6)).astype(np.float16)
    there, back = plane_of(vectors), plane_of(vectors[::-1])
    assert there.axes == pytest.approx(back.axes, abs=1e-4) and (there.axes.max(axis=0) > 0).all()


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_have_a_plane_too(rows: int) -> None:
    assert np.isfinite(plane_of(np.eye(4, dtype=np.float32)[:rows]).points(np.eye(4, dtype=np.float32))).all()


def test_a_sample_is_ascending_and_the_same_each_time() -> None:
    positions = np.arange(0, 3000, 3)
    sample = drawn(positions, 50)
    assert len(sample) == 50 and set(sample) <= set(positions.tolist()) and (np.diff(sample) > 0).all()
    assert np.array_equal(sample, drawn(positions, 50)) and np.array_equal(drawn(positions, 5000), positions)
