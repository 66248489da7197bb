"""Rows of a dataset in Python: of its types, in its order, no more than was asked for; wrong requests are one line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import Dataset
from clipmill.pipeline.errors import InfrastructureError, UserError
from made import make_dataset

ROWS = 3_000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two parts, of which the second has a failed row, a row without embeddings and one whose similarity is NaN."""
    folder = tmp_path_factory.mktemp("queries")
    vectors = np.eye(4)[np.arange(ROWS) % 4]
    first = {
        "similarity": np.linspace(0, 1, ROWS),
        "image_embedding": vectors,
        "caption": [f"c{i}" for i in range(ROWS)],
    }
    second = {
        "similarity": [0.5, None, float("nan")],
        "image_embedding": [[0, 1, 0, 0], [np.nan] * 4, [1, 0, 0, 0]],
        "error": [None, "decode: broken", None],
        "width": [7, None, 9],
    }
    made = make_dataset(folder / "out", [first, second], row_group=500)
    (folder / "side").mkdir()
    for part in made.parts:
        table = pq.read_table(folder / "out" / "data" / part, columns=["shard", "row"])
        label = pa.array([f"l{row % 2}" for row in table["row"].to_pylist()])
        vectors = table.num_rows * [[1.0, 0.5]]
        table = table.append_column("label", label).append_column("v", pa.array(vectors, pa.list_(pa.float16(), 2)))
        pq.write_table(table, folder / "side" / part)
    return made.join({"s": str(folder / "side")})


def test_rows_are_the_parts_rows_with_their_types(dataset: Dataset) -> None:
    stored = pa.concat_tables(dataset.read(part, dataset.schema.names) for part in dataset.parts)
    names = [name for name in dataset.schema.names if not name.endswith("_embedding")]
    table = dataset.to_arrow()
    assert table.column_names == names and table.schema.types == [dataset.types[name] for name in names]
    plain = [name for name in names if name != "similarity"]
    assert table.select(plain).to_pylist() == stored.select(plain).to_pylist()
    assert table["similarity"].to_pylist()[-3:] == [0.5, None, None]  # NaN is null
    table = dataset.to_arrow(["s.v", "image_embedding", "s.label", "key"])
    assert table.column_names == ["s.v", "image_embedding", "s.label", "key"]
    assert table.schema.field("image_embedding").type == pa.list_(pa.float16(), 4)
    assert table.schema.field("s.v").type == pa.list_(pa.float16(), 2)
    assert table["image_embedding"].to_pylist() == stored["image_embedding"].to_pylist()


def test_a_filter_is_read_when_rows_are_asked_for_and_narrows_what_was_filtered(dataset: Dataset) -> None:
    kept = dataset.filter("similarity > (SELECT avg(similarity) FROM pairs)", "s.label = 'l1' -- odd ones")
    expected = [f"c{row}" for row in range(ROWS // 2, ROWS) if row % 2]
    assert kept.to_arrow("caption")["caption"].to_pylist() == expected
    few = kept.filter("caption <> 'c2999'")
    assert few.sql("SELECT count(*) FROM pairs").to_pylist() == [{"count_star()": len(expected) - 1}]
    assert few.sql("SELECT max(s.label) AS most, min(similarity) > 0.5 AS above FROM pairs").to_pylist() == [
        {"most": "l1", "above": True}
    ]
    assert dataset.filter("error IS NOT NULL").to_arrow(["row", "error"]).to_pylist() == [
        {"row": 1, "error": "decode: broken"}
    ]
    assert "image_embedding" in dataset.filter("width = 7").sql("SELECT * FROM pairs").column_names
    cosine = "array_inner_product(image_embedding::FLOAT[4], [0, 0, 0, 1]::FLOAT[4])"
    assert dataset.sql(f"SELECT row FROM pairs WHERE {cosine} > 0.9 LIMIT 2")["row"].to_pylist() == [3, 7]


def test_no_more_rows_are_read_than_the_limit(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.url, tmp_path / "out")
    broken = Dataset.open(str(tmp_path / "out"))
    part = tmp_path / "out" / "data" / broken.parts[1]
    content = part.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    part.write_bytes(b"PAR1" + bytes(len(content) - footer - 4) + content[-footer:])  # its rows cannot be read
    with pytest.raises(InfrastructureError):
        broken.to_arrow("key")
    for of in (broken, broken.filter("width IS NULL")):
        assert of.to_arrow(["key", "caption"], limit=2)["caption"].to_pylist() == ["c0", "c1"]
    assert dataset.to_arrow(limit=0).num_rows == 0


def test_polars_has_the_same(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dataset.filter("width = 9 OR similarity = 1")
    frame = kept.to_polars(["key", "image_embedding"], limit=5)
    assert isinstance(frame, polars.DataFrame) and frame["key"].to_list() == kept.to_arrow("key")["key"].to_pylist()
    assert frame["image_embedding"].to_list() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UserError, match=r"pip install 'clipmill\[polars\]'"):
        kept.to_polars()


def test_wrong_requests_are_one_line(dataset: Dataset) -> None:
    for ask, complaint in [
        (lambda: dataset.to_arrow(["colour"]), "to_arrow: no column colour; there are key, uid"),
        (lambda: dataset.to_arrow(limit=-1), "to_arrow: the limit must be 0 or more, not -1"),
        (lambda: dataset.sql("SELECT colour FROM pairs"), 'sql: Binder Error: Referenced column "colour" not found'),
        (lambda: dataset.sql("SELEC 1"), "sql: Parser Error"),
        (lambda: dataset.filter("colour = 'red'").to_arrow(), "filter: Binder Error"),
        (lambda: dataset.filter("width >").to_arrow(), r"filter\('width >'\): "),
        (lambda: dataset.filter("true) OR (1; SELECT 2").to_arrow(), r"filter\('true\) OR \(1; SELECT 2'\): "),
        (lambda: dataset.sql("SELECT CAST(caption AS INT) FROM pairs"), "sql: Conversion Error"),
    ]:
        with pytest.raises(UserError, match=complaint) as raised:
            ask()
        assert "\n" not in str(raised.value)


def test_notebooks_show_what_a_dataset_has(dataset: Dataset) -> None:
    kept = dataset.filter("width > 2", "s.label = 'l1'")
    assert repr(kept) == f"{dataset!r}.filter('width > 2', \"s.label = 'l1'\")"
    shown = kept._repr_html_()
    for text in ("Pairs", dataset.url, "tiny (made)", "image embedding", "halffloat", "s.label = &#x27;l1&#x27;"):
        assert text in shown
    assert "Dataset" in dataset._repr_html_() and "filter" not in dataset._repr_html_()
