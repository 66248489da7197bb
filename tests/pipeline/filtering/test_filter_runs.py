"""The rows of a file of the narrow table in portions."""

from __future__ import annotations

import numpy as np
from clipmill.pipeline.dataset.narrow_file import NarrowFile
from clipmill.pipeline.filtering.runs import _of_file
from hypothesis import given
from hypothesis import strategies as st


def file_of(sizes: list[int]) -> NarrowFile:
    """A file of parts of so many rows."""
    names = tuple(f"{number:05d}" for number in range(len(sizes)))
    starts = (0, *np.cumsum(sizes, dtype=np.int64).tolist())
    return NarrowFile("file", 1, names, (1,) * len(sizes), (1,) * len(sizes), starts, {})


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 200), st.data())
def test_every_part_is_in_one_run_and_runs_are_alike(sizes: list[int], rows: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(sizes) - 1))
    file = file_of(sizes).between(first, data.draw(st.integers(first + 1, len(sizes))))
    runs = list(_of_file(file, rows))
    assert tuple(part for run in runs for part in run.parts) == file.parts
    lengths = [run.narrow[0].starts[-1] - run.narrow[0].starts[0] for run in runs]
    assert sum(lengths) == file.rows
    assert max(lengths) <= max(1.5 * rows, file.rows / max(1, round(file.rows / rows))) + max(sizes)
