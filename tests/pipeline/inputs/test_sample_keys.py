"""Images and captions under names that the user gives: extensions, columns and fields, nested, in lists, in base64."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from clipmill.pipeline.choices import SampleKeys
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from parquet_kit import STRUCT, in_memory, pack
from tar_kit import samples_of

IMAGE = b"\xff\xd8\xff an image"
BASE64 = base64.b64encode(IMAGE).decode()


def keys(image: str = "", caption: str = "") -> SampleKeys:
    return SampleKeys(tuple(image.split()), tuple(caption.split()))


def sides(samples: list[Sample]) -> list[tuple[Any, Any]]:
    return [(s.image, s.caption.decode() if isinstance(s.caption, bytes) else s.caption) for s in samples]


FILES = [
    ("a.rgb.png", b"1"),
    ("a.depth.png", b"2"),
    ("a.txt", b"t"),
    ("a.text", b"x"),
    ("a.json", b'{"prompt": ["p", "q"]}'),
]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (keys(), (b"1", "t")),
        (keys("depth.png", "text"), (b"2", "x")),
        (keys("depth", "prompt"), (b"2", "p")),
        (keys("jpg png", "caption prompt text"), (b"1", "p")),
        (keys("PNG", "text prompt"), (b"1", "x")),
        (keys("jpg"), (None, "t")),
        (keys("", "title"), (b"1", None)),
    ],
)
def test_files_of_tars_and_folders_by_extension(named: SampleKeys, expected: tuple[Any, Any], tmp_path: Path) -> None:
    assert sides(samples_of(FILES, named)) == [expected]
    for name, data in FILES:
        (tmp_path / name).write_bytes(data)
    if named.image in ((), ("PNG",), ("jpg", "png")):  # in folders, every image is a sample
        return
    try:
        samples = list(read_samples(Shard(f"{tmp_path}/"), keys=named))
    except ShardError as error:
        assert expected[0] is None and "no image files" in str(error)
    else:
        assert sides(samples) == [expected]


@pytest.mark.parametrize(
    ("fields", "named", "expected"),
    [
        ({"image": {"bytes": BASE64}, "text": {"en": "c"}}, keys("image.bytes", "text.en"), (IMAGE, "c")),
        ({"image": {"bytes": BASE64}}, keys("image"), (IMAGE, None)),
        ({"images": [BASE64, "x"], "texts": [["c"], "d"]}, keys("images", "texts"), (IMAGE, "c")),
        ({"i": f"data:image/jpeg;base64,{BASE64}", "a": [{"b": "c"}]}, keys("i", "a.b"), (IMAGE, "c")),
        ({"a.b": "dots", "a": {"b": "no"}}, keys("", "a.b"), (None, "dots")),
        ({"first": None, "second": "c"}, keys("", "first second"), (None, "c")),
        ({"image": "images/1.jpg", "caption": "c"}, keys("image"), (None, "c")),
    ],
)
def test_fields_of_json(fields: dict[str, Any], named: SampleKeys, expected: tuple[Any, Any]) -> None:
    [sample] = samples_of([("a.json", json.dumps(fields).encode())], named)
    assert sides([sample]) == [expected]


def test_a_field_that_is_there_but_is_no_image_says_so() -> None:
    causes = [
        samples_of([("a.json", json.dumps({"image": value}).encode())], keys("image"))[0].no_image
        for value in ("images/1.jpg", None, "", [], 5, {"url": "u"})
    ]
    assert causes == ["not understood", "empty", "empty", "empty", "not understood", "not understood"]


STRUCTS = pa.list_(STRUCT)


@pytest.mark.parametrize(
    ("table", "named", "expected"),
    [
        ({"images": pa.array([[{"bytes": b"1"}, {"bytes": b"2"}], [], None], STRUCTS), "text": ["t", "u", "v"]}, keys(),
         [(b"1", "t"), (None, "u"), (None, "v")]),
        ({"image": [b"1"], "caption": [["first", "second"]]}, keys(), [(b"1", "first")]),
        ({"image": [b"1", b"2"], "prompt": ["p", None]}, keys("", "prompt"), [(b"1", "p"), (b"2", None)]),
        ({"a": [b"1", None], "b": [b"2", b"2"], "text": ["t", "u"]}, keys("a b"), [(b"1", "t"), (b"2", "u")]),
        ({"x": [{"y": {"bytes": b"1", "path": "p"}, "z": [{"en": "c"}]}]}, keys("x.y", "x.z.en"), [(b"1", "c")]),
        ({"image": [BASE64], "text": ["t"]}, keys("image"), [(IMAGE, "t")]),
        ({"image": pa.array([{"bytes": b"1"}], STRUCT), "text": ["t"]}, keys("image.bytes"), [(b"1", "t")]),
        ({"image": pa.array([BASE64]).dictionary_encode(), "text": ["t"]}, keys("image"), [(IMAGE, "t")]),
        ({"image": [b"1"], "text": ["t"]}, keys("gone", "gone text"), [(None, "t")]),
    ],
)  # fmt: skip
def test_columns_of_parquet(table: dict[str, Any], named: SampleKeys, expected: list[tuple[Any, Any]]) -> None:
    assert sides(in_memory(pack(table), named)) == expected


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no column of images or captions named pic or cap among image, text"):
        in_memory(pack({"image": [b"1"], "text": ["t"]}), keys("pic", "cap"))


def test_null_images_and_captions_are_empty_and_say_so() -> None:
    table = {"image": pa.array([{"bytes": b"1"}, None, {"bytes": None, "path": None}], STRUCT), "text": ["t", None, ""]}
    samples = in_memory(pack(table))
    assert [(s.no_image, s.no_caption) for s in samples] == [(None, None), ("empty", "empty"), ("empty", "empty")]
    assert [s.no_caption for s in in_memory(pack({"image": [b"1"], "prompt": ["p"]}))] == ["not understood"]
    assert [s.no_caption for s in in_memory(pack({"image": [b"1"], "x": ["p"]}))] == ["no file"]
