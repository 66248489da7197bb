"""Invented shards of every kind: each of WebDataset's samples is a row, and no row lacks a side without a cause."""

import io
import json
import re
import tarfile
from collections import Counter
from itertools import groupby
from typing import Any

import pyarrow as pa
from clipmill.pipeline.choices import USUAL_KEYS, SampleKeys
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from parquet_kit import in_memory, pack
from tar_kit import Content, packed, samples_of

PARTS = st.sampled_from(["a", "b", "0", "1", "img_0", "05", "image", "caption", "left", "é", " ", "x" * 110])
KINDS = st.sampled_from(["jpg", "JPG", "png", "heic", "txt", "TXT", "text", "json", "npy", "cls", "mp4", ""])
FOLDERS = st.sampled_from(["", "", "", "d/", "d.v1/", "./", "__MACOSX/", "d/.hidden/"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(st.sampled_from(["caption", "prompt", "image", "uid", "a.b"]), JSON, max_size=4)


@st.composite
def names(draw: st.DrawFn) -> str:
    parts = [draw(PARTS), *draw(st.lists(PARTS, max_size=2)), *draw(st.lists(KINDS, min_size=0, max_size=1))]
    return draw(FOLDERS) + draw(st.sampled_from(["", "", "", "."])) + ".".join(parts)


@st.composite
def files(draw: st.DrawFn) -> Content:
    content = []
    for name in draw(st.lists(names(), max_size=12)):
        is_json = name.lower().endswith(".json") and draw(st.booleans())
        content.append((name, json.dumps(draw(FIELDS)).encode() if is_json else draw(st.binary(max_size=40))))
    return content


KEYS = st.builds(
    SampleKeys,
    image=st.lists(st.sampled_from(["png", "left", "left.jpg", "image.bytes"]), max_size=2).map(tuple),
    caption=st.lists(st.sampled_from(["text", "prompt", "caption.txt", "a.b"]), max_size=2).map(tuple),
)


def webdataset_samples(data: bytes) -> list[str]:
    """The keys of webdataset's samples: `base_plus_ext` and `group_by_keys`, after its documentation; where it refuses
    a file that comes twice, the next sample of that key begins."""
    keys: list[str] = []
    extensions: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            match = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", name)
            *folders, base = name.split("/")
            if not member.isreg() or match is None or base.startswith(".") or "__MACOSX" in folders:
                continue  # hidden files are passed over here, which webdataset takes for samples
            key, extension = match[1], match[2].lower()
            if not keys or keys[-1] != key or extension in extensions:
                keys.append(key)
                extensions = set()
            extensions.add(extension)
    return keys


def check_sides(samples: list[Sample]) -> None:
    """Each side is there, or says why not; a row that lacks both has an error, or is for the decoder to refuse."""
    assert [sample.row for sample in samples] == list(range(len(samples)))
    for sample in samples:
        if sample.error is None:
            assert (sample.no_image is None) == bool(sample.image)
            assert (sample.no_caption is None) == bool(sample.caption and sample.caption.strip())


@settings(deadline=None, max_examples=300)
@given(files(), KEYS | st.just(USUAL_KEYS))
def test_each_of_webdatasets_samples_is_a_row(content: Content, keys: SampleKeys) -> None:
    data = packed(content)
    expected = webdataset_samples(data)
    try:
        samples = samples_of(data, keys)
    except ShardError as error:
        assert "no sample in it is understood" in str(error)
        assert not any(is_understood(name) for name, _ in content) or keys != USUAL_KEYS
        return
    check_sides(samples)
    # a key has the rows of its own name, and those whose key has a middle added
    rows = [group_of(sample.key) for sample in samples]
    assert [key for key, _ in groupby(rows)] == [key for key, _ in groupby(expected)]
    assert all(Counter(rows)[key] >= count for key, count in Counter(expected).items())


def is_understood(name: str) -> bool:
    folder, _, base = name.rpartition("/")
    kind = base.rpartition(".")[2].lower()
    hidden = base.startswith(".") or "__MACOSX" in folder
    return "." in base and not hidden and kind in ("jpg", "png", "heic", "txt", "json")


def group_of(key: str) -> str:
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]


@settings(deadline=None, max_examples=150)
@given(files(), st.integers(0, 20_000))
def test_a_tar_that_breaks_off_anywhere_gives_rows_or_one_line(content: Content, at: int) -> None:
    data = packed(content)
    try:
        check_sides(samples_of(data[: at % (len(data) + 1)]))
    except ShardError as error:
        assert "\n" not in str(error)


@settings(deadline=None, max_examples=150)
@given(files(), KEYS | st.just(USUAL_KEYS))
def test_every_image_of_a_folder_is_a_row(content: Content, keys: SampleKeys) -> None:
    store = MemoryFileSystem()
    store.store.clear()
    by_name = {name: data for name, data in content if "/" not in name and name.strip()}
    store.pipe({f"/folder/{name}": data for name, data in by_name.items()})
    try:
        samples = list(read_samples(Shard("memory://folder/"), keys=keys))
    except ShardError as error:
        assert "no image files" in str(error) or "no such file" in str(error)
        return
    check_sides(samples)
    if not keys.image:
        images = [n for n in by_name if n.lower().endswith((".jpg", ".png", ".heic")) and not n.startswith(".")]
        assert sum(s.image is not None for s in samples) == len(images)


COLUMN = st.one_of(
    st.lists(st.none() | st.binary(max_size=9), min_size=3, max_size=3).map(lambda v: pa.array(v, pa.binary())),
    st.lists(st.none() | st.text(max_size=9), min_size=3, max_size=3).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.none() | st.lists(st.none() | st.text(max_size=9), max_size=2), min_size=3, max_size=3).map(
        lambda v: pa.array(v, pa.list_(pa.string()))
    ),
    st.lists(st.none() | st.lists(st.none() | st.binary(max_size=9), max_size=2), min_size=3, max_size=3).map(
        lambda v: pa.array([v and [{"bytes": b, "path": None} for b in v] for v in v], IMAGES)
    ),
    st.lists(st.none() | st.binary(max_size=9), min_size=3, max_size=3).map(
        lambda v: pa.array([{"bytes": b, "path": None} for b in v], IMAGES.value_type)
    ),
    st.just(pa.array([1.0, float("nan"), None])),
    st.just(pa.array([{"en": "a"}, None, {"en": "b"}])),
)
IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
COLUMNS = st.sampled_from(["image", "images", "jpg", "caption", "text", "captions", "prompt", "key", "x", "a.b", "url"])


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(COLUMNS, COLUMN, min_size=1, max_size=5), KEYS | st.just(USUAL_KEYS))
def test_every_row_of_a_table_is_a_row(columns: dict[str, Any], keys: SampleKeys) -> None:
    try:
        samples = in_memory(pack(columns), keys)
    except ShardError as error:
        assert "\n" not in str(error)
        return
    assert len(samples) == 3
    check_sides(samples)
