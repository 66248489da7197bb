"""Which kind of index, how many cells and how large a sample of vectors a size asks for."""

from __future__ import annotations

import pytest
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.searching import ann_cells


def test_auto_goes_by_the_size() -> None:
    assert [ann_cells.kind_for("auto", n, 512) for n in (10**3, 10**6, 10**8)] == ["flat", "ivf", "ivfpq"]
    assert ann_cells.cells_for(50, 30, 512) == 30


def test_a_sample_has_a_vector_for_each_cell_at_least() -> None:
    assert all(ann_cells.sample_size(n, 512) >= n for n in (1, 1000, 10**6, 10**9))
    assert ann_cells.sample_size(1000, 512) == 64_000


def test_too_few_vectors_for_codes_or_too_many_for_a_graph() -> None:
    with pytest.raises(UserError, match="needs at least 256 vectors"):
        ann_cells.kind_for("ivfpq", 100, 512)
    with pytest.raises(UserError, match=r"GB of memory .* use --kind ivf or ivfpq"):
        ann_cells.kind_for("hnsw", 10**11, 512)


def test_cells_go_by_the_advice_of_faiss_within_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann_cells, "memory", lambda: 1 << 40)
    cells = [ann_cells.cells_for(None, 10**power, 512) for power in (0, 4, 6, 7, 8, 9)]
    assert cells == [1, 400, 4000, 1 << 18, 1 << 20, 1 << 20]
    assert ann_cells.sample_size(1 << 20, 512) == 64 << 20
    monkeypatch.setattr(ann_cells, "memory", lambda: 24 << 30)
    few = ann_cells.cells_for(None, 10**9, 512)
    assert 30 <= ann_cells.sample_size(few, 512) / few < 31 and ann_cells.sample_size(few, 512) * 2048 < 4 << 30
