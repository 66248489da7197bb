"""The page's cosines, in four languages, are those that the dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from commands import blocks
from embedded import embed_here
from fakes import Drawn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
TOLERANCE = 2e-3  # of a dot product of float16 vectors


def test_four_readers_compute_the_stored_similarity(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded.DIM", 256)
    embed_here(drawn.tars, tmp_path / "embeddings")
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks(PAGE) if block.language == "python" and "in_polars" in block.text]
    names: dict[str, Any] = {}
    exec(compile(block.text, PAGE.name, "exec"), names)
    query = "SELECT key, similarity FROM 'embeddings/data/*.parquet' WHERE error IS NULL ORDER BY key"
    keys, stored = (np.array(column) for column in zip(*duckdb.sql(query).fetchall(), strict=True))
    assert len(keys) == 108 and np.ptp(stored) > 0.1
    for frame in (names["in_duckdb"].pl(), names["in_polars"].collect()):
        assert frame.sort("key")["key"].to_list() == keys.tolist()
        np.testing.assert_allclose(frame.sort("key")["cosine"], stored, atol=TOLERANCE)
    by_pandas = names["in_pandas"].sort_values("key")
    assert by_pandas["key"].tolist() == keys.tolist()
    np.testing.assert_allclose(by_pandas["cosine"], stored, atol=TOLERANCE)
    first = names["in_numpy"]
    assert first.shape == (108,) and first[0] == pytest.approx(1, abs=TOLERANCE) and first[1:].max() < 1 + TOLERANCE
