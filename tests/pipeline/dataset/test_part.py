"""The part: its columns, its values, its footer, and that a wrong file is never taken for a right one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.columns import OWN_COLUMNS, Column
from clipmill.pipeline.dataset.part import Embeddings, PartLayout, PartWriter, similarity, verify
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Decoded, Shard, Vector
from fakes import unit_vector

SHARD = Shard("s3://bucket/00000.tar")
COLUMNS = (Column("uid"), Column("caption"), Column("score", "float64"))
LAYOUT = PartLayout(COLUMNS, 4, 77)


def table(*rows: Decoded, layout: PartLayout = LAYOUT, vectors: bool = True) -> pa.Table:
    """Embedded rows get the embeddings `image 0`, `text 0` and so on."""
    images: list[Vector | None] = []
    texts: list[Vector | None] = []
    for row in rows:
        embedded = vectors and row.error is None
        images.append(unit_vector(b"image %d" % row.row, layout.dim) if embedded else None)
        texts.append(unit_vector(b"text %d" % row.row, layout.dim) if embedded else None)
    return layout.table(SHARD, layout.samples(rows), side(images, layout.dim), side(texts, layout.dim))


def side(vectors: list[Vector | None], dim: int = 4) -> Embeddings:
    there = [(np.array([i], np.int32), vector[None]) for i, vector in enumerate(vectors) if vector is not None]
    return Embeddings.of(len(vectors), dim, there)


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_the_columns_are_those_of_the_contract(kind: Any) -> None:
    vector = f"fixed_size_list<element: {'halffloat' if kind == 'float16' else 'float'}>[4]"
    expected = {
        "key": "string",
        "uid": "string",
        "caption": "string",
        "score": "double",
        "shard": "dictionary<values=string, indices=int32, ordered=0>",
        "row": "int32",
        "image_offset": "int64",
        "image_size": "int32",
        "width": "int32",
        "height": "int32",
        "sha256": "string",
        "caption_tokens": "int32",
        "caption_truncated": "bool",
        "image_embedding": vector,
        "text_embedding": vector,
        "similarity": "float",
        "error": "string",
    }
    schema = PartLayout(COLUMNS, 4, 77, kind).schema
    found = {field.name: str(field.type).replace("<item:", "<element:") for field in schema}
    assert found == expected and list(found) == list(expected)
    assert [field.name for field in schema if not field.nullable] == ["key", "shard", "row"]


def test_every_fixed_column_is_refused_as_a_chosen_one() -> None:
    assert {field.name for field in PartLayout((), 4, 77).schema} == OWN_COLUMNS


def test_an_embedded_row_has_all_its_values() -> None:
    row = Decoded(
        3, "k", "a dog", {"uid": "u1", "score": 0.25}, 512, 999, 640, 480, "ab" * 32, caption_tokens=4
    )  # fmt: skip
    got = table(row).to_pylist()[0]
    image, text = got.pop("image_embedding"), got.pop("text_embedding")
    assert image == unit_vector(b"image 3", 4).astype(np.float16).tolist()
    assert text == unit_vector(b"text 3", 4).astype(np.float16).tolist()
    assert got.pop("similarity") == pytest.approx(float(unit_vector(b"image 3", 4) @ unit_vector(b"text 3", 4)))
    assert got == {
        "key": "k", "uid": "u1", "caption": "a dog", "score": 0.25, "shard": SHARD.url, "row": 3,
        "image_offset": 512, "image_size": 999, "width": 640, "height": 480, "sha256": "ab" * 32,
        "caption_tokens": 4, "caption_truncated": False, "error": None,
    }  # fmt: skip


def test_a_failed_row_says_why_and_is_null_elsewhere() -> None:
    got = table(Decoded(0, "k", error="read: no image")).to_pylist()[0]
    filled = {name: value for name, value in got.items() if value is not None}
    assert filled == {"key": "k", "shard": SHARD.url, "row": 0, "error": "read: no image"}


def test_a_missing_embedding_is_null_and_not_zeros() -> None:
    one = unit_vector(b"x", 4)
    rows = LAYOUT.samples([Decoded(0, "a"), Decoded(1, "b")])
    made = LAYOUT.table(SHARD, rows, side([one, None]), side([None, one]))
    assert made.column("image_embedding").is_null().to_pylist() == [False, True]
    assert made.column("text_embedding").is_null().to_pylist() == [True, False]
    assert made.column("similarity").to_pylist() == [None, None]


@pytest.mark.parametrize(("tokens", "truncated"), [(None, None), (2, False), (77, False), (78, True)])
def test_a_caption_is_truncated_beyond_the_context_length(tokens: int | None, truncated: bool | None) -> None:
    made = table(Decoded(0, "k", caption_tokens=tokens))
    assert made.column("caption_truncated").to_pylist() == [truncated]


@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("float32", np.float32)])
def test_similarity_is_computed_before_embeddings_are_rounded(kind: Any, dtype: type) -> None:
    layout = PartLayout((), 256, 77, kind)
    image, text = unit_vector(b"image 0", 256), unit_vector(b"text 0", 256)
    made = table(Decoded(0, "k"), layout=layout)
    np.testing.assert_array_equal(made.column("image_embedding").to_numpy()[0], image.astype(dtype))
    rounded = float(np.dot(image.astype(np.float16), text.astype(np.float16)))
    assert abs(rounded - float(np.dot(image, text))) > 1e-6, "rounding would go unseen"
    assert made.column("similarity").to_pylist() == [pytest.approx(float(np.dot(image, text)), abs=1e-7)]


@pytest.mark.parametrize("side", [-(2**31) - 1, -1, 2**31, 2**32 - 1])
def test_a_side_that_only_a_broken_header_can_claim_is_null(side: int) -> None:
    made = table(Decoded(0, "k", width=side, height=2**31 - 1, error="decode: image over the limit"))
    assert made.column("width").to_pylist() == [None]
    assert made.column("height").to_pylist() == [2**31 - 1]


def test_the_caption_column_is_what_was_embedded_and_not_the_jsons() -> None:
    row = Decoded(0, "k", "from the text file", {"caption": "from the json"})
    assert table(row).column("caption").to_pylist() == ["from the text file"]


# --- similarity, on vectors written by hand ---------------------------------------------------------------------------

HALF = np.array([0.5, 0.5, 0.5, 0.5], dtype=np.float32)
FIRST = np.array([1, 0, 0, 0], dtype=np.float32)


def cosine(one: Vector, other: Vector) -> float:
    (value,) = similarity(one[None], other[None])
    return float(value)


def test_similarity_is_the_cosine() -> None:
    assert cosine(HALF, FIRST) == 0.5
    assert cosine(HALF, HALF) == 1.0
    assert cosine(FIRST, -FIRST) == -1.0
    assert cosine(FIRST, FIRST[::-1]) == 0.0


def test_similarity_is_symmetric() -> None:
    random = np.random.default_rng(0)
    one, other = (v / np.linalg.norm(v) for v in random.standard_normal((2, 512)).astype(np.float32))
    assert cosine(one, other) == pytest.approx(float(one.astype(float) @ other.astype(float)), abs=1e-6)
    assert cosine(one, other) == cosine(other, one)


def test_each_row_has_its_own_similarity_in_float32() -> None:
    values = similarity(np.stack([HALF, FIRST, HALF]), np.stack([FIRST, FIRST, -HALF]))
    assert values.dtype == np.float32 and values.tolist() == [0.5, 1.0, -1.0]
    assert similarity(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)).shape == (0,)


def test_a_missing_side_has_no_similarity() -> None:
    rows = LAYOUT.samples([Decoded(i, str(i)) for i in range(4)])
    made = LAYOUT.table(SHARD, rows, side([HALF, FIRST, None, None]), side([FIRST, None, FIRST, None]))
    assert made.column("similarity").to_pylist() == [0.5, None, None, None]


# --- files -----------------------------------------------------------------------------------------------------------


def written(path: Path, *tables: pa.Table, layout: PartLayout = LAYOUT) -> Path:
    with PartWriter(path, layout.schema) as part:
        for each in tables:
            part.write(each)
        part.finish({"clipmill.counts": json.dumps({"rows": 3})})
    return path


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    one, two = table(Decoded(0, "a"), Decoded(1, "b", error="read: no image")), table(Decoded(2, "ü"))
    path = written(tmp_path / "p.parquet", one, two)
    assert pq.read_table(path).equals(pa.concat_tables([one, two]))
    assert verify(path, LAYOUT.schema, 3) == path.stat().st_size


def test_the_footer_holds_what_it_was_given(tmp_path: Path) -> None:
    metadata = pq.read_metadata(written(tmp_path / "p.parquet", table(Decoded(0, "a"))))
    assert json.loads(metadata.metadata[b"clipmill.counts"]) == {"rows": 3}


def test_each_table_is_a_row_group_and_embeddings_go_without_dictionary(tmp_path: Path) -> None:
    rows = [Decoded(i, str(i)) for i in range(5)]
    metadata = pq.read_metadata(written(tmp_path / "p.parquet", table(*rows[:3]), table(*rows[3:])))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [3, 2]
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    embeddings = [column for column in columns if "embedding" in column.path_in_schema]
    assert len(embeddings) == 2
    assert not any("DICTIONARY" in encoding for column in embeddings for encoding in column.encodings)
    assert not any(column.is_stats_set for column in embeddings)
    assert {column.compression for column in columns} == {"ZSTD"}
    assert next(c for c in columns if c.path_in_schema == "similarity").is_stats_set  # so that readers can skip


def test_a_part_without_rows_has_all_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "p.parquet")
    assert verify(path, LAYOUT.schema, 0) > 0
    assert pq.read_table(path).schema.equals(LAYOUT.schema) and pq.read_metadata(path).num_rows == 0


def test_verifying_refuses_what_was_not_meant(tmp_path: Path) -> None:
    path = written(tmp_path / "p.parquet", table(Decoded(0, "a")))
    for layout, rows in ((LAYOUT, 2), (PartLayout((), 4, 77), 1), (PartLayout(COLUMNS, 8, 77), 1)):
        with pytest.raises(InfrastructureError, match=r"p\.parquet"):
            verify(path, layout.schema, rows)


def test_verifying_refuses_a_torn_file(tmp_path: Path) -> None:
    path = written(tmp_path / "p.parquet", table(*(Decoded(i, str(i)) for i in range(50))))
    whole = path.read_bytes()
    for torn in (b"", whole[: len(whole) // 2], whole[:-1], whole[:-8] + bytes(8)):
        path.write_bytes(torn)
        with pytest.raises(InfrastructureError, match="cannot be read back"):
            verify(path, LAYOUT.schema, 50)
    path.unlink()
    with pytest.raises(InfrastructureError, match="cannot be read back"):
        verify(path, LAYOUT.schema, 50)
