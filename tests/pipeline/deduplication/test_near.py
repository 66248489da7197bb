"""Near duplicates found cell by cell, from objects in order of the cells, generation by generation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.deduplication import cells, compare, near, sorted_files
from clipmill.pipeline.deduplication.cells import CellWriter, record_type
from clipmill.pipeline.deduplication.compare import as_compared
from clipmill.pipeline.deduplication.components import connect
from clipmill.pipeline.deduplication.near import ComparePiece, pieces
from clipmill.pipeline.deduplication.sketch import Axes
from clipmill.pipeline.deduplication.sorted_files import Ranges
from hypothesis import given, settings
from hypothesis import strategies as st
from made import unit_vectors

RECORD = record_type(8, "float16")
CELLS = 5


@pytest.fixture
def vectors() -> np.ndarray:
    """120 vectors, of which 0, 10, 20, … and 5, 15, … follow each other in small steps, and the rest is apart."""
    made = unit_vectors(3, 120, 8)
    for start in (0, 5):
        for i in range(start + 10, 120, 10):
            made[i] = made[i - 10] + 0.1 * unit_vectors(i, 1, 8)[0]
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def written(
    output: Output, vectors: np.ndarray, of_cells: np.ndarray, writers: int = 3, axes: Axes | None = None
) -> list[str]:
    """The names of objects with the vectors, by their numbers; with axes, their sketches lie beside them."""
    names = [f".clipmill/w{number}" for number in range(writers)]
    record = RECORD if vectors.shape[1] == 8 else record_type(vectors.shape[1], "float16")
    for name, ids in zip(names, np.array_split(np.arange(len(vectors)), writers), strict=True):
        with CellWriter(CELLS, record) as writer, CellWriter(CELLS, axes.record if axes else record) as beside:
            for some in np.array_split(ids, 4):
                cells = of_cells[some].astype(np.int32)
                writer.add(cells, id=some, vector=vectors[some])
                if axes:
                    beside.add(cells, **axes.fields(as_compared(vectors[some].astype(np.float16))))
            writer.write(output, name)
            if axes:
                beside.write(output, f"{name}-sketches")
    return names


def compared(
    output: Output,
    own: Sequence[str],
    earlier: Sequence[str],
    most: int,
    generation: int = 0,
    threshold: float = 0.97,
    record: np.dtype = RECORD,
    axes: Axes | None = None,
) -> np.ndarray:
    """The pairs of a generation, by the work that is committed piece by piece."""
    fetched = [f"{name}-sketches" for name in earlier] if axes else earlier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_files, "_LEAST", most)
        patch.setattr(sorted_files, "_AVERAGE", 0)
        new, old = Ranges.fitting(output, [*own, *fetched], CELLS).divided(len(own))
    compare = ComparePiece(output, record, threshold, generation, axes)
    sketches = old if axes else None
    old = old.beside(earlier, axes.record.itemsize, record.itemsize) if axes else old
    every = list(pieces(new, old, most, record.itemsize, sketches))
    for piece in every:
        compare(piece)
    files = [np.frombuffer(output.read(compare.name_of(piece)) or b"", np.int64) for piece in every]
    return np.concatenate([np.empty(0, np.int64), *files]).reshape(-1, 2)


def expected(vectors: np.ndarray, of_cells: np.ndarray, threshold: float) -> np.ndarray:
    stored = vectors.astype(np.float16).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    shared = [(a, b) for a, b in combinations(range(len(vectors)), 2) if set(of_cells[a]) & set(of_cells[b])]
    pairs = [pair for pair in shared if stored[pair[0]] @ stored[pair[1]] >= threshold]
    return connect(np.arange(200), np.array(pairs, np.int64).reshape(-1, 2))


def random_cells(vectors: np.ndarray, probes: int) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.stack([random.choice(CELLS, probes, replace=False) for _ in vectors])


@pytest.mark.parametrize("rows", [7, 33, 1000])  # a piece: less than a cell, some cells, all of them
@pytest.mark.parametrize(("tile", "block"), [(5, 12), (2048, 1 << 16)])
@pytest.mark.parametrize("probes", [1, 2])
def test_every_pair_that_shares_a_cell_is_found_however_the_work_is_cut(
    rows: int, tile: int, block: int, probes: int, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_ROWS", block)
    monkeypatch.setattr(compare, "_TILE", tile)
    monkeypatch.setattr(cells, "_CHUNK", 25 * RECORD.itemsize)
    of_cells = random_cells(vectors, probes)
    output = Output.at(str(tmp_path)).prepare()
    names = written(output, vectors, of_cells)
    most = rows * RECORD.itemsize
    whole = expected(vectors, of_cells, 0.97)
    assert np.array_equal(connect(np.arange(200), compared(output, names, [], most)), whole)
    first, later = compared(output, names[:2], [], most), compared(output, names[2:], names[:2], most, 1)
    assert (later >= 80).any(axis=1).all()  # each pair has a row that is new
    assert np.array_equal(connect(np.arange(200), np.concatenate([first, later])), whole)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from([3, 8, 64, 100]),
    tightness=st.sampled_from([0.5, 3.0, 20.0]),
    probes=st.sampled_from([1, 2]),
    most=st.sampled_from([900, 1 << 14, 1 << 20]),
    memory=st.sampled_from([0, 1 << 20]),
)
def test_by_sketches_a_generation_has_the_pairs_that_it_has_by_whole_vectors(
    seed: int, dim: int, tightness: float, probes: int, most: int, memory: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """To the last one, of new rows planted about the threshold from earlier ones."""
    random, threshold = np.random.default_rng(seed), 0.9
    vectors = random.standard_normal((130, dim)) + tightness * random.standard_normal((4, dim))[np.arange(130) % 4]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    of_cells = np.stack([random.choice(CELLS, probes, replace=False) for _ in vectors])
    for row in range(110, 130):  # the newest run's
        earlier, other = int(random.integers(0, 110)), random.standard_normal(dim)
        other -= (other @ vectors[earlier]) * vectors[earlier]
        cosine = threshold + random.uniform(-0.001, 0.001)
        vectors[row] = cosine * vectors[earlier] + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)
        of_cells[row] = of_cells[earlier]
    vectors[127:] = vectors[5]
    vectors = vectors.astype(np.float32)
    axes, record = Axes.of(vectors[:60]), record_type(dim, "float16")
    output = Output.at(str(tmp_path_factory.mktemp("sketches"))).prepare()
    names = written(output, vectors, of_cells, 7, axes)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "IN_MEMORY", memory)
        for generation, by in enumerate((None, axes)):
            found.append(compared(output, names[6:], names[:6], most, generation, threshold, record, by))
    whole, sketched = (connect(np.arange(130), pairs) for pairs in found)
    assert np.array_equal(whole, sketched) and len(found[0])


def test_objects_are_in_order_of_cells_whatever_fits_into_memory(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, contents = Output.at(str(tmp_path)).prepare(), []
    for chunk in (RECORD.itemsize, 25 * RECORD.itemsize, 1 << 20):
        monkeypatch.setattr(cells, "_CHUNK", chunk)
        (name,) = written(output, vectors, random_cells(vectors, 2), writers=1)
        contents.append(output.read(name))
    records = np.frombuffer(contents[0] or b"", RECORD)
    assert contents[0] == contents[1] == contents[2] and len(records) == 240
    order = list(zip(records["cell"].tolist(), records["id"].tolist(), strict=True))
    assert order == sorted(order)


def test_a_cell_of_equal_vectors_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_PAIRS", 10)
    monkeypatch.setattr(compare, "_TILE", 16)
    output = Output.at(str(tmp_path)).prepare()
    names = written(output, np.repeat(unit_vectors(1, 1, 8), 150, axis=0), np.full((150, 1), 4, np.int32))
    pairs = compared(output, names, [], 1 << 20, threshold=0.999)
    assert len(pairs) == 149 and not connect(np.arange(150), pairs).any()


def test_pieces_of_nothing_find_nothing(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path)).prepare()
    names = written(output, np.empty((0, 8), np.float32), np.full((0, 1), 4, np.int32), writers=1)
    assert not len(compared(output, names, [], 100))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=12), st.integers(1, 30))
def test_pieces_cover_every_new_row_once_and_stay_small(sizes: list[tuple[int, int]], most: int) -> None:
    """In records of one byte, so many new and old ones in each cell."""
    new, old = (sorted_files.offsets_of(np.array(some)) for some in zip(*sizes, strict=True))
    cuts = sorted_files.cut(np.diff(new) + np.diff(old), most)
    own, earlier = (
        Ranges((name,), offsets[None, cuts], np.empty((1, 0), np.int64))
        for name, offsets in (("new", new), ("old", old))
    )
    covered: list[int] = []
    for piece in near.pieces(own, earlier, most, 1):
        rows = {name: range(start, stop) for name, start, stop in piece.slices}
        size = sum(map(len, rows.values()))
        assert piece.fresh == len(rows["new"]) > 0
        assert piece.stretch == most if piece.stretch else size <= most * 3 // 2
        covered += rows["new"][: piece.stretch]
    assert covered == list(range(int(new[-1])))
