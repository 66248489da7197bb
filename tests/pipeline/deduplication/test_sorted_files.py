"""The shuffle: ranges of buckets read from sorted objects."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.deduplication import sorted_files
from clipmill.pipeline.deduplication.sorted_files import IN_MEMORY, Ranges, cut, fair, fair_range
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 30))
def test_ranges_cover_every_bucket_once_and_stay_small(sizes: list[int], most: int) -> None:
    cuts = cut(np.array(sizes), most).tolist()
    assert cuts[0] == 0 and cuts[-1] == len(sizes) and cuts == sorted(set(cuts))
    for first, stop in pairwise(cuts):
        assert stop == first + 1 or sum(sizes[first:stop]) <= most


@pytest.mark.parametrize("total", [10**6, 10**9, 10**12, 2 * 10**13])  # bytes
def test_there_are_no_more_requests_than_megabytes(total: int) -> None:
    """That is so from a gigabyte on; below, there are at most a thousand or so."""
    objects = ranges = math.ceil(total / fair(total))
    assert objects * ranges <= max(1, total >> 20) * 1.1


@pytest.mark.parametrize("objects", [1, 40, 142, 10_000])
@pytest.mark.parametrize("total", [10**7, 10**9, 10**12])  # bytes
def test_ranges_of_many_small_objects_are_as_large_as_memory_holds(total: int, objects: int) -> None:
    size = fair_range(total, objects)
    assert fair(total) <= size <= max(fair(total), IN_MEMORY)
    assert size >= min(IN_MEMORY, objects << 20)  # a megabyte of each object


def test_every_record_is_read_in_its_bucket(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path)).prepare()
    random, names, everything = np.random.default_rng(0), [], []
    for number in range(3):
        values = random.integers(0, 1000, 100 * number)  # of the first object there is an index alone
        records, offsets = sorted_files.sort(values, values % 7, 7)
        sorted_files.write(output, f".clipmill/{number}", [records[:9], records[9:]], offsets, [number])
        names.append(f".clipmill/{number}")
        everything.append(values)
    ranges = Ranges.over(output, names, np.array([0, 2, 7]))
    assert len(ranges) == 2 and ranges.bytes == 300 * 8
    for number, buckets in ((0, {0, 1}), (1, {2, 3, 4, 5, 6})):
        found = sorted_files.records(output, ranges.of(number), np.dtype(np.int64))
        expected = [value for values in everything for value in values.tolist() if value % 7 in buckets]
        assert sorted(found.tolist()) == sorted(expected)
    assert [int(index.counts[0]) for index in sorted_files.indexes(output, names)] == [0, 1, 2]
    assert not (tmp_path / ".clipmill/0").exists()
