"""Analysts never import clipmill: what other readers of Parquet see is what was embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from clipmill.clipmodel.weights import Loaded
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.part import PartLayout
from clipmill.pipeline.embedding.decode import Decoder
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.embedding.encoder import ClipEncoder
from clipmill.pipeline.inputs.shards import read_samples
from fakes import COLUMNS, Drawn, clip_tools, parts

Rows = list[dict[str, Any]]

TOLERANCE = 2e-3  # of a cosine of float16 embeddings


@pytest.fixture(scope="module")
def out(drawn: Drawn, sharp: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = Output.at(str(tmp_path_factory.mktemp("readers") / "out"))
    output.prepare()
    for shard in drawn.shards:
        embed_shard(shard, clip_tools(sharp), output)
    output.write(".clipmill/manifest.parquet", b"not for readers")
    return Path(output.url)


@pytest.fixture(scope="module")
def rows(out: Path, drawn: Drawn) -> Rows:
    """As the writer's own library reads them."""
    found = parts(out)
    assert len(found) == drawn.spec.pairs
    return found


@pytest.fixture(scope="module")
def plain(rows: Rows) -> Rows:
    """Without the embeddings, which readers have each their own type for."""
    return [{name: value for name, value in row.items() if "embedding" not in name} for row in rows]


def query(sql: str) -> duckdb.DuckDBPyRelation:
    relation = duckdb.sql(sql)
    assert relation is not None
    return relation


def matrix(values: Any) -> np.ndarray:
    """Rows of floats -> float32 [n, dim]; nulls become NaNs."""
    return np.array([np.full(256, np.nan) if each is None else np.asarray(each) for each in values], dtype=np.float32)


def assert_same_vectors(got: Any, rows: Rows, name: str) -> None:
    np.testing.assert_array_equal(matrix(got), matrix([row[name] for row in rows]))


def test_pyarrow_reads_the_folder_as_one_dataset(out: Path, rows: Rows) -> None:
    """Its discovery passes over our own folder by its name."""
    assert ds.dataset(out, format="parquet").to_table().to_pylist() == rows


def test_duckdb_reads_equal_values(out: Path, rows: Rows, plain: Rows) -> None:
    found = query(f"SELECT * FROM '{out}/data/*.parquet' ORDER BY shard, row")
    names = [name for name in found.columns if "embedding" not in name]
    got = [dict(zip(names, values, strict=True)) for values in found.select(*names).fetchall()]
    assert got == sorted(plain, key=lambda row: (row["shard"], row["row"]))
    ordered = sorted(rows, key=lambda row: (row["shard"], row["row"]))
    for name in ("image_embedding", "text_embedding"):
        assert_same_vectors([each for (each,) in found.select(name).fetchall()], ordered, name)


def test_duckdb_computes_the_same_similarity(out: Path, rows: Rows) -> None:
    found = query(f"""
        SELECT similarity, array_cosine_similarity(image_embedding::FLOAT[256], text_embedding::FLOAT[256])
        FROM '{out}/data/*.parquet' WHERE error IS NULL
    """).fetchall()
    assert len(found) == sum(row["error"] is None for row in rows)
    stored, computed = np.array(found).T
    assert np.ptp(stored) > 0.1  # there is something to get wrong
    assert np.abs(stored - computed).max() < TOLERANCE


def test_duckdb_finds_the_nearest_images(out: Path, rows: Rows) -> None:
    wanted = next(row for row in rows if row["error"] is None)
    found = duckdb.execute(
        f"""
        SELECT key FROM '{out}/data/*.parquet' WHERE error IS NULL
        ORDER BY array_cosine_similarity(image_embedding::FLOAT[256], ?::FLOAT[256]) DESC LIMIT 1
        """,
        [wanted["image_embedding"]],
    ).fetchall()
    assert found == [(wanted["key"],)]


def test_polars_reads_equal_values(out: Path, rows: Rows, plain: Rows) -> None:
    frame = pl.concat([pl.read_parquet(part) for part in sorted(out.glob("data/*.parquet"))])
    assert frame.drop("image_embedding", "text_embedding").to_dicts() == plain
    for name in ("image_embedding", "text_embedding"):
        assert frame.schema[name] == pl.Array(pl.Float16, 256)
        assert_same_vectors(frame[name].to_list(), rows, name)


def test_polars_scans_the_folder(out: Path, rows: Rows) -> None:
    best = (
        pl.scan_parquet(f"{out}/data/*.parquet").filter(pl.col("error").is_null()).sort("similarity").last().collect()
    )
    assert best["similarity"].item() == max(row["similarity"] for row in rows if row["error"] is None)


def test_pandas_reads_equal_values(out: Path, rows: Rows, plain: Rows) -> None:
    frame = pd.concat([pd.read_parquet(part) for part in sorted(out.glob("data/*.parquet"))], ignore_index=True)
    for name in plain[0]:
        got = [None if pd.isna(value) else value for value in frame[name]]
        assert got == [row[name] for row in plain]
    for name in ("image_embedding", "text_embedding"):
        assert_same_vectors(frame[name], rows, name)


def test_each_rows_embeddings_are_those_of_its_image_and_caption_alone(
    out: Path, rows: Rows, drawn: Drawn, sharp: Loaded
) -> None:
    by_place = {(row["shard"], row["row"]): row for row in rows}
    encoder, decoder = ClipEncoder(sharp.model, batch_size=1), Decoder(sharp.preprocess, sharp.tokenizer)
    checked = 0
    for shard in drawn.shards:
        for sample in read_samples(shard):
            row, alone = by_place[shard.url, sample.row], decoder.decode(sample)
            assert (row["key"], row["error"]) == (sample.key, alone.error)
            if alone.error is None:
                assert alone.pixels is not None and alone.tokens is not None
                image, text = encoder.encode([alone.pixels], [alone.tokens])
                for mine, theirs in ((image[0], row["image_embedding"]), (text[0], row["text_embedding"])):
                    stored = np.asarray(theirs, dtype=np.float32)
                    assert mine @ stored / np.linalg.norm(stored) >= 0.99999
                assert row["similarity"] == pytest.approx(float(image[0] @ text[0]), abs=1e-4)
                checked += 1
    assert checked == 108


def test_float32_embeddings_are_read_too(drawn: Drawn, sharp: Loaded, rows: Rows, tmp_path: Path) -> None:
    output = Output.at(str(tmp_path / "out"))
    output.prepare()
    shard = drawn.shards[0]
    embed_shard(shard, clip_tools(sharp, layout=PartLayout(COLUMNS, 256, 77, "float32")), output)
    part = f"{output.url}/data/{shard.part_name}"
    expected = [row for row in rows if row["shard"] == shard.url]
    [(stored, computed)] = query(f"""
        SELECT list(similarity ORDER BY row),
               list(array_cosine_similarity(image_embedding::FLOAT[256], text_embedding::FLOAT[256]) ORDER BY row)
        FROM '{part}' WHERE error IS NULL
    """).fetchall()
    np.testing.assert_allclose(stored, computed, atol=1e-6)
    np.testing.assert_allclose(stored, [row["similarity"] for row in expected if row["error"] is None], atol=1e-6)
    assert pl.read_parquet(part).schema["text_embedding"] == pl.Array(pl.Float32, 256)
