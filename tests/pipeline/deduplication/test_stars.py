"""Groups over a cluster: stars, made round by round, are the connected components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.deduplication import sorted_files, stars
from clipmill.pipeline.deduplication.components import connect
from clipmill.pipeline.deduplication.stars import Graph
from clipmill.pipeline.deduplication.state import PART, Numbering
from hypothesis import given, settings
from hypothesis import strategies as st

PAIRS = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)).filter(lambda pair: pair[0] != pair[1]), max_size=60)
PARTS, ROWS = 4, 10
NUMBERING = Numbering(np.array([2, 0, 3, 1]), np.array([0, 0, 1, 1]))  # numbers of parts are not their places


def ids(things: np.ndarray) -> np.ndarray:
    """Things 0 to 39 as rows of the dataset: ten in each part, in the dataset's order."""
    return np.asarray(NUMBERING.numbered((things // ROWS << PART) | things % ROWS))


def members(folder: Path, files: list[np.ndarray]) -> np.ndarray:
    """What the graph says of things 0 to 39."""
    output = Output.at(str(folder)).prepare()
    slices = []
    for number, pairs in enumerate(files):
        data = ids(pairs).tobytes()
        output.write(f".clipmill/{number}", data)
        slices.append((f".clipmill/{number}", 0, len(data)))
    found = Graph(output, ".clipmill/x-", NUMBERING, "auto").members(slices, set())
    first = np.arange(PARTS * ROWS)
    for run in range(2):
        some = sorted_files.records(output, found.of(run), np.dtype(np.int64)).reshape(-1, 2)
        assert (NUMBERING.runs_of(NUMBERING.numbered(some[:, 0])) == run).all()
        things = (some >> PART) * ROWS + (some & 0xFF)
        assert len(np.unique(things[:, 0])) == len(things)
        first[things[:, 0]] = things[:, 1]
    return first


@pytest.mark.parametrize("at_once", [0, 1 << 20])  # by rounds over partitions, or in one task
@settings(max_examples=6, deadline=None)
@given(some=PAIRS, more=PAIRS)
def test_every_row_knows_the_lowest_of_its_group(
    at_once: int, some: list, more: list, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = [np.array(pairs, np.int64).reshape(-1, 2) for pairs in (some, more)]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(stars, "_AT_ONCE", at_once)
        patch.setattr(stars, "_partition", lambda total: max(1, total // 3))
        found = members(tmp_path_factory.mktemp("graph"), files)
    assert np.array_equal(found, connect(np.arange(40), np.concatenate(files)))


def test_a_long_chain_takes_few_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds grow as the logarithm of a chain's length, so that memory and time are those of its pairs."""
    order = np.random.default_rng(0).permutation(20_000)
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    pairs = np.sort(pairs, axis=1)
    rounds, changes = 0, 1
    while changes:
        large, one = stars.large_star(stars._sorted(stars._both_ways(pairs)))
        pairs, other = stars.small_star(stars._sorted(large))
        rounds, changes = rounds + 1, one + other
    assert rounds < 20
    assert not stars.members_of(stars._sorted(stars._both_ways(pairs)))[:, 1].any()
