"""Which column of a Parquet file is what."""

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clipmill.pipeline.records import Sample
from parquet_kit import STRUCT, in_memory, pack

Reader = Callable[..., list[Sample]]


@pytest.mark.parametrize("name", ["image", "jpg", "png", "webp", "img", "image_bytes", "bytes", "anything"])
@pytest.mark.parametrize("type", [pa.binary(), pa.large_binary(), STRUCT, pa.struct([("bytes", pa.large_binary())])])
def test_the_image_column_is_found_by_name_or_being_the_only_one(name: str, type: pa.DataType) -> None:
    cells: list[Any] = [{"bytes": b"a", "path": "p"}, None] if pa.types.is_struct(type) else [b"a", None]
    table = {"x": [1, 2], name: pa.array(cells, type), "txt": ["t", "u"]}
    if name != "anything":
        table["another"] = [b"no", b"no"]
    samples = in_memory(pack(table))
    assert [(s.image, s.caption, s.error) for s in samples] == [(b"a", b"t", None), (None, b"u", None)]


@pytest.mark.parametrize("name", ["caption", "text", "txt", "TEXT"])
@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_the_caption_is_found_by_name(name: str, type: pa.DataType) -> None:
    captions = pa.array(["one", None, ""], pa.string() if pa.types.is_dictionary(type) else type).cast(type)
    samples = in_memory(pack({name: captions, "jpg": [b"x"] * 3}))
    assert [s.caption for s in samples] == [b"one", None, b""]


def test_names_that_come_first_in_the_list_win(read_parquet: Reader) -> None:
    [sample] = read_parquet({"uid": ["u"], "key": ["k"], "jpg": [b"2"], "image": [b"1"], "TEXT": ["2"], "text": ["1"]})
    assert (sample.key, sample.image, sample.caption) == ("k", b"1", b"1")
    assert sample.metadata == {"uid": "u", "key": "k", "TEXT": "2", "text": "1"}


@pytest.mark.parametrize("name", ["key", "__key__", "id", "uid"])
def test_keys_are_text_and_the_rows_number_stands_in(name: str) -> None:
    assert [s.key for s in in_memory(pack({name: ["a", None], "image": [b"", b""]}))] == ["a", "1"]
    assert [s.key for s in in_memory(pack({name: [7, None], "image": [b"", b""]}))] == ["7", "1"]
    assert [s.key for s in in_memory(pack({name: [[7], None], "image": [b"", b""]}))] == ["0", "1"]


def test_every_scalar_column_is_metadata(read_parquet: Reader) -> None:
    at = datetime.datetime(2020, 1, 2, 3, 4, 5, 678, datetime.timezone.utc)
    table = {
        "image": [b"x"],
        "s": ["é"],
        "i": pa.array([2**64 - 1], pa.uint64()),
        "f": [0.5],
        "h": pa.array([np.float16(0.5)], pa.float16()),
        "b": [True],
        "none": pa.array([None], pa.int8()),
        "d": [decimal.Decimal("1.50")],
        "at": pa.array([at], pa.timestamp("us", "UTC")),
        "day": [datetime.date(2020, 1, 2)],
        "took": pa.array([5], pa.duration("s")),
        "where": pa.array([1], pa.timestamp("ns", "Nowhere/City")),
        "category": pa.array(["c"]).dictionary_encode(),
        "vector": [[1.0, 2.0]],
        "nested": [{"a": 1}],
        "sha": [b"\xff"],
    }
    [sample] = read_parquet(table)
    metadata = sample.metadata
    assert metadata.pop("at").startswith("2020-01-02 03:04:05.000678")
    assert metadata.pop("where") is not None
    assert metadata == {
        "s": "é", "i": 2**64 - 1, "f": 0.5, "h": 0.5, "b": True, "none": None, "d": "1.50", "day": "2020-01-02",
        "took": "5", "category": "c",
    }  # fmt: skip


def test_columns_of_one_name_and_names_with_dots(read_parquet: Reader) -> None:
    first, second = pa.array(["first"]), pa.array(["second"])
    table = pa.Table.from_arrays([first, second, first, pa.array([b"x"])], names=["a", "a", "a.b", "image"])
    [sample] = read_parquet(table)
    assert (sample.metadata, sample.image) == ({"a": "first", "a.b": "first"}, b"x")
