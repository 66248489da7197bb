"""What earlier rows are fetched for a few new ones: all that may be near these, and little else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.deduplication import screening
from clipmill.pipeline.deduplication.cells import record_type
from clipmill.pipeline.deduplication.compare import as_compared
from clipmill.pipeline.deduplication.sketch import Axes
from hypothesis import given
from hypothesis import strategies as st
from made import unit_vectors

DIM, CELLS = 96, 7


def records(vectors: np.ndarray, cells: np.ndarray) -> np.ndarray:
    made = np.zeros(len(vectors), record_type(vectors.shape[1], "float16"))
    made["vector"], made["cell"], made["id"] = vectors, cells, np.arange(len(vectors))
    return made


def sketches(axes: Axes, of: np.ndarray) -> np.ndarray:
    made = np.zeros(len(of), axes.record)
    made["cell"] = of["cell"]
    for name, values in axes.fields(as_compared(of["vector"])).items():
        made[name] = values
    return made


@pytest.mark.parametrize("tile", [5, 4096])
def test_whatever_is_near_in_a_cell_survives(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pairs within 0.001 of the threshold, and of others."""
    monkeypatch.setattr(screening, "_TILE", tile)
    random = np.random.default_rng(0)
    new, other = unit_vectors(1, 60, DIM), unit_vectors(2, 60, DIM)
    other -= (other * new).sum(axis=1, keepdims=True) * new
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosines = 0.95 + np.linspace(-0.001, 0.001, 60, dtype=np.float32)[:, None]
    near = cosines * new + np.sqrt(1 - cosines**2) * other
    cells = random.integers(0, CELLS, 60)
    own = records(new, cells)
    earlier = records(
        np.concatenate([near, near[:20], unit_vectors(3, 400, DIM)]),
        np.concatenate([cells, (cells[:20] + 1) % (CELLS + 2), random.integers(0, CELLS + 2, 400)]),
    )
    axes = Axes.of(unit_vectors(4, 500, DIM))
    found = screening.survivors(own, sketches(axes, earlier), axes, 0.95)
    product = as_compared(earlier["vector"]) @ as_compared(own["vector"]).T
    reached = ((product >= 0.95) & (earlier["cell"][:, None] == own["cell"])).any(axis=1)
    assert 20 < reached.sum() < 60 and found[reached].all()
    assert found.sum() < 100


SLICES = st.lists(st.lists(st.booleans(), min_size=1, max_size=40), max_size=5)


@given(SLICES, st.integers(0, 60), st.integers(1, 90))
def test_ranges_hold_what_was_found_and_no_long_gaps(found: list[list[bool]], gap: int, most: int) -> None:
    size = 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "_GAP", gap)
        patch.setattr(screening, "_RANGE", most)
        slices = [(str(number), 80, 80 + size * len(some)) for number, some in enumerate(found)]
        flat = np.array([each for some in found for each in some], np.bool_)
        wanted = list(screening.ranges(slices, flat, size))
    places = []
    for (name, start, stop), chosen in wanted:
        assert 80 <= start < stop <= 80 + size * len(found[int(name)])
        assert stop - start == size * len(chosen) <= max(size, most)
        missed = "".join("x" if each else " " for each in chosen)
        assert max(map(len, missed.split("x"))) * size <= max(gap, most)
        places += [(int(name), (start - 80) // size + int(place)) for place in np.flatnonzero(chosen)]
    assert places == [(number, place) for number, some in enumerate(found) for place in np.flatnonzero(some)]


def test_where_most_are_found_slices_are_fetched_whole_and_where_few_are_little_is(tmp_path: Path) -> None:
    output, every = Output.at(str(tmp_path)).prepare(), records(unit_vectors(1, 20_000, 64), np.zeros(20_000))
    output.write("x", every.tobytes())
    size = every.itemsize
    slices = [("x", 0, 5000 * size), ("x", 5000 * size, 20_000 * size)]
    found = np.zeros(20_000, np.bool_)
    found[::3] = True
    assert [piece for piece, _ in screening.ranges(slices, found, size)] == [
        ("x", 0, 4999 * size),  # the first of each three
        ("x", 5001 * size, 19_999 * size),
    ]
    some = np.concatenate(list(screening.fetched(output, slices, found, every.dtype)))
    assert np.array_equal(some["id"], np.flatnonzero(found))
    found[:] = False
    found[[7, 4998, 5001, 19_000]] = True
    assert [piece for piece, _ in screening.ranges(slices, found, size)] == [
        ("x", 7 * size, 4999 * size),
        ("x", 5001 * size, 5002 * size),
        ("x", 19_000 * size, 19_001 * size),
    ]
