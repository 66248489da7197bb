"""Rows that must be forgotten: no way of reading a dataset tells anything of them, before a purge and without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.forgotten import ASKED, FOUND, REASON, Asked, Kind, blanked, digest_of
from clipmill.pipeline.dataset.narrow import narrowed
from clipmill.pipeline.dataset.source import source_of
from clipmill.pipeline.dataset.sql import connect
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.running import narrow_table
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from clipmill.pipeline.searching.part_vectors import batches
from made import make_dataset, unit_vectors

ROWS, PARTS = 10, 3


def part(number: int, rows: int = ROWS) -> dict[str, Any]:
    vectors = unit_vectors(number, rows)
    return {
        "uid": [f"uid-{number}-{row}" for row in range(rows)],
        "url": [f"https://there.example/{number}/{row}" for row in range(rows)],
        "caption": [f"caption {number} {row}" for row in range(rows)],
        "sha256": [f"{number:032x}{row:032x}" for row in range(rows)],
        "width": [100 + row for row in range(rows)],
        "image_embedding": vectors,
        "text_embedding": vectors,
        "similarity": np.linspace(0.1, 0.9, rows),
    }


@pytest.fixture
def made(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path / "made", [part(number) for number in range(PARTS)], row_group=4)


def ask(dataset: Dataset, kind: Kind, values: Sequence[str], shard: str = "") -> Dataset:
    """As the step does it."""
    rows = [{"by": kind, "digest": digest_of(kind, value, shard), "at": 0} for value in values]
    dataset.output.write(ASKED, Asked.packed(pa.Table.from_pylist(rows)))
    return Dataset.open(dataset.url)


def test_every_way_of_reading_leaves_the_row_in_its_place_with_nothing_in_it(made: Dataset) -> None:
    forgetful = ask(made, "uid", ["uid-1-5"])
    changed = [source_of(made, part, None) != source_of(forgetful, part, None) for part in made.parts]
    assert changed == [False, True, False]  # so that labels and exports of the part are made again
    name, columns = made.parts[1], made.schema.names
    before, read = made.read(name, columns), forgetful.read(name, columns)
    assert read.schema.equals(before.schema)
    blank = read.slice(5, 1).to_pylist()[0]
    assert {column for column, value in blank.items() if value is not None} == {"key", "shard", "row", "error"}
    assert (blank["key"], blank["row"], blank["error"]) == ("", 5, REASON)
    for rows in (slice(0, 5), slice(6, 10)):
        assert read.to_pylist()[rows] == before.to_pylist()[rows]
    assert forgetful.take(name, [2, 5, 9], columns).to_pylist() == [read.to_pylist()[row] for row in (2, 5, 9)]
    streamed = pa.Table.from_batches(list(forgetful.batches(columns, 3)))
    assert streamed.to_pylist() == [row for p in made.parts for row in forgetful.read(p, columns).to_pylist()]
    with connect(forgetful) as connection:
        in_sql = connection.sql("SELECT * FROM pairs ORDER BY shard, row").to_arrow_table().to_pylist()
    narrow = [c for c in columns if not c.endswith("_embedding")]
    assert [[row[c] for c in narrow] for row in in_sql] == [[row[c] for c in narrow] for row in streamed.to_pylist()]
    assert in_sql[15]["image_embedding"] is None
    present = np.concatenate([b.present for b in batches(forgetful, name, "image_embedding", ROWS)])
    assert np.flatnonzero(~present).tolist() == [5]
    assert NumberedRows.of(forgetful).mask("uid = 'uid-1-5' OR error IS NULL").sum() == ROWS * PARTS - 1
    assert bytes(np.asarray(part(1)["image_embedding"][5], np.float16)) not in _vectors(read)


def _vectors(table: pa.Table) -> bytes:
    return b"".join(chunk.values.to_numpy().tobytes() for chunk in table["image_embedding"].chunks)


def test_rows_are_named_by_any_of_four_columns(made: Dataset) -> None:
    def rows(dataset: Dataset) -> list[tuple[str, list[int]]]:
        return [(p, found.rows.tolist()) for p, found in dataset.forgotten.parts.items()]

    name = made.parts[2]
    assert rows(ask(made, "url", ["https://there.example/2/3"])) == [(name, [3])]
    assert rows(ask(made, "sha256", [part(2)["sha256"][4].upper()])) == [(name, [4])]
    key = made.read(name, ["key"])["key"][7].as_py()
    shard = made.read(name, ["shard"])["shard"][0].as_py()
    assert rows(ask(made, "key", [key], shard)) == [(name, [7])]
    assert rows(ask(made, "key", [key], "/another.tar")) == []
    assert rows(ask(made, "uid", ["unknown"])) == []


def test_what_comes_again_is_forgotten_too(made: Dataset) -> None:
    ask(made, "uid", ["uid-0-2", "uid-7-1"])
    grown = make_dataset(Path(made.url), [*(part(number) for number in range(PARTS)), part(7)], row_group=5)
    assert {p: found.rows.tolist() for p, found in grown.forgotten.parts.items()} == {
        grown.parts[0]: [2],
        grown.parts[3]: [1],
    }
    found = set((Path(made.url) / FOUND).iterdir())
    Dataset.open(made.url)
    assert set((Path(made.url) / FOUND).iterdir()) == found  # looked through once
    for path in found:
        path.write_bytes(b"damaged")
    assert Dataset.open(made.url).forgotten.parts.keys() == grown.forgotten.parts.keys()
    (Path(made.url) / ASKED).write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged: restore it"):
        Dataset.open(made.url)


def test_what_was_made_before_is_refused_until_it_is_made_again(made: Dataset, tmp_path: Path) -> None:
    job = FilterJob(made.url, str(tmp_path / "subset"), where=["width < 107"])
    filter(job)
    ask(made, "uid", ["uid-1-5"])
    of_before = Subset.open(job.out)
    forgetful = Dataset.open(made.url)
    for subset in (of_before, replace(of_before, stamps=made.sizes)):  # as subsets had them before there were stamps
        with pytest.raises(InputError, match=r"rows of 00001-.* were forgotten since this subset was made"):
            subset.check_fits(forgetful)
    again = filter(job)
    assert (again.funnel.kept, again.parts_done_before) == (7 * PARTS - 1, PARTS - 1)
    kept = [row for path in (tmp_path / "subset" / "data").iterdir() for row in pq.read_table(path).to_pylist()]
    assert len(kept) == 7 * PARTS - 1
    assert "" not in {row["key"] for row in kept}
    assert Subset.within(job.out, Dataset.open(made.url)) is not None


def test_the_narrow_table_is_made_without_them(made: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow_table, "MANY_PARTS", 1)
    before = narrow_table.with_narrow_table(made, "auto", lambda _: None)
    assert {p for file in before.narrow for p in file.parts} == set(made.parts)
    forgetful = ask(made, "uid", ["uid-1-5"])
    assert not narrowed(forgetful).narrow  # its file has the row still
    table = narrow_table.with_narrow_table(forgetful, "auto", lambda _: None)
    assert {p for file in table.narrow for p in file.parts} == set(made.parts)
    with connect(table) as connection:
        rows = connection.sql("SELECT uid, url, sha256, error FROM pairs WHERE row = 5 ORDER BY shard").fetchall()
    assert rows[1] == (None, None, None, REASON)
    assert rows[0][:2] == ("uid-0-5", "https://there.example/0/5")


@pytest.mark.parametrize("kind", [pa.list_(pa.float16(), 2), pa.list_(pa.float32(), 2), pa.list_(pa.string())])
def test_columns_of_any_type_are_blanked_also_in_slices(kind: pa.DataType) -> None:
    values = [[1, 2], None, [3, 4], [5, 6]] if pa.types.is_fixed_size_list(kind) else [["a"], None, ["b", "c"], []]
    column = pa.array([np.array(v, np.float16) if v and kind.value_type == pa.float16() else v for v in values], kind)
    batch = pa.record_batch({"row": pa.array([3, 4, 5, 6], pa.int32()), "values": column}).slice(1)
    gone = blanked(batch, [0, 5, 90], start=4)
    assert gone.schema.equals(batch.schema)
    assert gone["values"].is_null().to_pylist() == [True, True, False]
    assert gone["values"][2] == batch["values"][2]
    assert blanked(batch, [1], start=4) is batch
