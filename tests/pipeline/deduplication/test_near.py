"""Near duplicates found cell by cell, from files in order of the cells."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.deduplication import cells, near
from clipmill.pipeline.deduplication.cells import CellFiles, CellWriter, record_type
from clipmill.pipeline.deduplication.components import connect
from clipmill.pipeline.deduplication.near import ComparePiece, pieces
from hypothesis import given
from hypothesis import strategies as st
from made import unit_vectors

RECORD = record_type(8, "float16")
FOUND = set[tuple[int, int]]


@pytest.fixture
def vectors() -> np.ndarray:
    """120 vectors, of which 0, 10, 20, … and 5, 15, … follow each other in small steps, and the rest is apart."""
    made = unit_vectors(3, 120, 8)
    for start in (0, 5):
        for i in range(start + 10, 120, 10):
            made[i] = made[i - 10] + 0.1 * unit_vectors(i, 1, 8)[0]
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def written(folder: Path, vectors: np.ndarray, of_cells: np.ndarray, writers: int = 3) -> tuple[CellFiles, np.ndarray]:
    output = Output.at(str(folder)).prepare()
    names = [f".clipmill/w{number}" for number in range(writers)]
    count = int(of_cells.max()) + 1
    for name, ids in zip(names, np.array_split(np.arange(len(vectors)), writers), strict=True):
        writer = CellWriter(output, name, count, RECORD)
        for some in np.array_split(ids, 4):
            writer.add(some, vectors[some], of_cells[some].astype(np.int32))
        writer.finish()
    return CellFiles.open(output, names, RECORD)


def found(files: CellFiles, offsets: np.ndarray, threshold: float) -> np.ndarray:
    """What all ids are connected to, by the work that is committed piece by piece."""
    compare = ComparePiece(files, threshold, ".clipmill/")
    every = list(pieces(offsets))
    for piece in every:
        compare(piece)
    return connect(np.arange(200), np.concatenate([compare.pairs_of(piece) for piece in every]))


def expected(vectors: np.ndarray, of_cells: np.ndarray, threshold: float) -> np.ndarray:
    stored = vectors.astype(np.float16).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    shared = [(a, b) for a, b in combinations(range(len(vectors)), 2) if set(of_cells[a]) & set(of_cells[b])]
    pairs = [pair for pair in shared if stored[pair[0]] @ stored[pair[1]] >= threshold]
    return connect(np.arange(200), np.array(pairs, np.int64).reshape(-1, 2))


@pytest.mark.parametrize("rows", [7, 33, 1000])  # a piece: less than a cell, some cells, all of them
@pytest.mark.parametrize("tile", [5, 2048])
@pytest.mark.parametrize("probes", [1, 2])
def test_every_pair_that_shares_a_cell_is_found_however_the_work_is_cut(
    rows: int, tile: int, probes: int, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "_ROWS", rows)
    monkeypatch.setattr(near, "_TILE", tile)
    monkeypatch.setattr(cells, "_ROWS", 25)
    random = np.random.default_rng(1)
    of_cells = np.stack([random.choice(5, probes, replace=False) for _ in vectors])
    files, offsets = written(tmp_path, vectors, of_cells)
    assert len(files.names) > 3
    assert np.array_equal(found(files, offsets, 0.97), expected(vectors, of_cells, 0.97))


def test_a_cell_of_equal_vectors_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_PAIRS", 10)
    monkeypatch.setattr(near, "_TILE", 16)
    vectors = np.repeat(unit_vectors(1, 1, 8), 150, axis=0)
    files, offsets = written(tmp_path, vectors, np.zeros((150, 1), np.int32))
    assert not found(files, offsets, 0.999)[:150].any()


def test_pieces_of_nothing_find_nothing(tmp_path: Path) -> None:
    files, offsets = CellFiles.open(*_empty(tmp_path), RECORD)
    assert np.array_equal(found(files, offsets, 0.9), np.arange(200))


def _empty(folder: Path) -> tuple[Output, list[str]]:
    output = Output.at(str(folder)).prepare()
    CellWriter(output, ".clipmill/none", 3, RECORD).finish()
    return output, [".clipmill/none"]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 30))
def test_pieces_cover_every_cell_once_and_stay_small(sizes: list[int], rows: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes)])[None].astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "_ROWS", rows)
        cut = list(pieces(offsets))
    assert [piece.number for piece in cut] == list(range(len(cut)))
    covered: list[int] = []
    for piece in cut:
        size = int(piece.offsets[0, -1] - piece.offsets[0, 0])
        assert size <= rows if piece.start is None else piece.offsets.shape[1] == 2
        if not piece.start:
            covered += range(piece.offsets[0, 0], piece.offsets[0, -1])
        if piece.start is not None:
            assert size > rows and piece.start % rows == 0 and piece.start < size
    assert covered == list(range(sum(sizes)))
