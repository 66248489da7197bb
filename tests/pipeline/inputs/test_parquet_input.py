"""Samples out of Parquet: in what order, how much in memory, and what of a broken file."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from clipmill.pipeline.storage import remote
from fakes import fake_tools, jpeg
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from parquet_kit import STRUCT, broken_text, in_memory, pack

Reader = Callable[..., list[Sample]]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes each request to the memory file system has brought."""
    sizes: list[int] = []
    real = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, path: str, **kwargs: Any) -> bytes:
        data: bytes = real(self, path, **kwargs)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    yield sizes
    MemoryFileSystem.store.clear()


def test_rows_come_in_order_over_all_row_groups(read_parquet: Reader) -> None:
    images = [jpeg(i) for i in range(100)]
    samples = read_parquet(
        {"image": images, "caption": [f"c{i}" for i in range(100)], "n": range(100)}, row_group_size=7
    )
    assert samples == [Sample(i, str(i), images[i], f"c{i}".encode(), {"caption": f"c{i}", "n": i}) for i in range(100)]


def test_captions_alone_are_samples(read_parquet: Reader) -> None:
    assert read_parquet({"text": ["a", "b"], "url": ["u", None]}) == [
        Sample(0, "0", caption=b"a", metadata={"text": "a", "url": "u"}, no_image="no file"),
        Sample(1, "1", caption=b"b", metadata={"text": "b", "url": None}, no_image="no file"),
    ]


def test_neither_images_nor_captions_is_a_shard_error(read_parquet: Reader) -> None:
    with pytest.raises(ShardError, match="no column of images or captions among url, caption"):
        read_parquet({"url": ["u"], "caption": [{"en": "several"}]})
    with pytest.raises(ShardError, match="none at all"):
        read_parquet(pa.table({}))


def test_two_columns_that_may_be_the_image_are_a_shard_error(read_parquet: Reader) -> None:
    with pytest.raises(ShardError, match="left or right; name it by --image-key left"):
        read_parquet({"left": [b"1"], "right": [b"2"], "caption": ["c"]})


def test_paths_are_not_followed(read_parquet: Reader, tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(jpeg())
    path = str(tmp_path / "p.jpg")
    cells = [{"bytes": None, "path": path}, {"bytes": b"x", "path": path}, {"bytes": None, "path": None}, None]
    samples = read_parquet({"image": pa.array(cells, STRUCT), "text": ["a", "b", "c", "d"]})
    assert [(s.image, s.error) for s in samples] == [
        (None, "read: image is a path, not bytes"),
        (b"x", None),
        (None, None),
        (None, None),
    ]
    assert [s.caption for s in samples] == [b"a", b"b", b"c", b"d"]


def test_text_that_is_no_utf8_is_a_value(read_parquet: Reader) -> None:
    texts = broken_text(b"a\xff", b"\xed\xa0\x80", None, b"fine")
    path = pa.StructArray.from_arrays([pa.nulls(4, pa.binary()), texts], names=["bytes", "path"])
    samples = read_parquet({"key": texts, "caption": texts, "url": texts, "image": path})
    assert [s.key for s in samples] == ["a\\xff", "\\xed\\xa0\\x80", "2", "fine"]
    assert [s.caption for s in samples] == [b"a\xff", b"\xed\xa0\x80", None, b"fine"]
    assert [s.metadata["url"] for s in samples] == ["a\ufffd", "\ufffd\ufffd\ufffd", None, "fine"]
    assert [s.error is None for s in samples] == [False, False, True, False]


def test_an_oversized_image_fails_its_sample(read_parquet: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.pipeline.inputs.parquet_columns.MAX_MEMBER", 1000)
    one, two = read_parquet({"image": [bytes(1001), bytes(1000)]})
    assert (one.image, one.error, two.error) == (None, "read: image larger than 256 MiB", None)


def test_clipmills_own_parts_are_no_input(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path / "out"))
    output.prepare()
    shard = Shard(str(tmp_path / "x.parquet"))
    Path(shard.url).write_bytes(pack({"image": [jpeg(0), b"no", jpeg(2)], "caption": ["a", "b", "c"], "uid": "xyz"}
                                     | {"uid": ["x", "y", "z"]}))  # fmt: skip
    stats = embed_shard(shard, fake_tools(), output)
    assert (stats.rows, stats.embedded) == (3, 2)
    part = pq.read_table(f"{output.url}/data/{shard.part_name}").to_pylist()
    assert [(row["key"], row["uid"], row["caption"]) for row in part] == [
        (u, u, c) for u, c in zip("xyz", "abc", strict=True)
    ]
    assert [row["error"] is None for row in part] == [True, False, True]
    assert [row["image_offset"] for row in part] == [None] * 3
    with pytest.raises(ShardError, match="embeddings that clipmill wrote"):
        list(read_samples(Shard(f"{output.url}/data/{shard.part_name}")))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"<html>" * 200, pack({"image": [b"x"] * 9})[:-1]])
def test_what_has_no_footer_is_a_shard_error(read_parquet: Reader, data: bytes) -> None:
    with pytest.raises(ShardError, match=r"x\.parquet: not a Parquet file, or a broken one") as caught:
        read_parquet(data)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_a_shard_error(tmp_path: Path) -> None:
    MemoryFileSystem().pipe("/shards/y.parquet/z", b"")
    for url in (str(tmp_path / "x.parquet"), "memory://nowhere/x.parquet", "fish://x.parquet"):
        for size in (None, 100):
            with pytest.raises(ShardError):
                list(read_samples(Shard(url, size)))
    (tmp_path / "y.parquet").mkdir()
    for url in (str(tmp_path / "y.parquet"), "memory://shards/y.parquet"):
        with pytest.raises(ShardError, match="a folder, not a file"):
            list(read_samples(Shard(url)))


def test_damage_in_the_middle_is_one_failed_row(read_parquet: Reader) -> None:
    images = [np.random.default_rng(i).bytes(500) for i in range(200)]
    data = pack({"image": images}, row_group_size=50, compression="zstd", write_page_checksum=True)
    at = data.index(images[120])
    samples = read_parquet(data[: at + 3] + b"!!" + data[at + 5 :])
    assert [s.image for s in samples[:100]] == images[:100]
    assert [s.error for s in samples[:-1]] == [None] * (len(samples) - 1)
    last = samples[-1]
    assert last.error is not None and last.error.startswith(f"read: damaged Parquet ({200 - last.row} of 200 rows lost")
    assert last.row == len(samples) - 1 >= 100


def test_rows_that_the_footer_promises_and_nobody_has_are_one_failed_row(
    read_parquet: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *a, **k: list(real(*a, **k))[:1])
    samples = read_parquet({"image": [b"x"] * 40})
    assert [s.row for s in samples] == list(range(33))
    assert samples[-1].error == "read: damaged Parquet (8 of 40 rows lost)"


def test_storage_that_fails_on_the_way_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    images = [np.random.default_rng(i).bytes(100_000) for i in range(100)]
    MemoryFileSystem().pipe("/shards/x.parquet", data := pack({"image": images}, row_group_size=10))
    shard = Shard("memory://shards/x.parquet", len(data))
    real = MemoryFileSystem.cat_file

    def fails(self: MemoryFileSystem, path: str, start: int, end: int) -> bytes:
        if start == 4 << 20:
            raise ConnectionResetError("gone")
        return bytes(real(self, path, start=start, end=end))

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fails)
    samples = read_samples(shard)
    assert next(samples).image == images[0]
    with pytest.raises(ConnectionResetError, match="gone"):
        list(samples)


def test_memory_is_bounded_by_pages_and_not_by_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    images = [np.random.default_rng(i).bytes(100_000) for i in range(400)]
    table = {"image": [{"bytes": image, "path": "p"} for image in images], "vector": [[1.0] * 100] * 400}
    path.write_bytes(pack(table, row_group_size=400, write_batch_size=8))
    before = pa.total_allocated_bytes()
    for image, sample in zip(images, read_samples(Shard(str(path))), strict=True):
        assert sample.image == image
        assert pa.total_allocated_bytes() - before < 16 << 20


def test_only_the_columns_needed_are_fetched(fetched: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).random((2000, 2000))
    table = {"caption": ["c"] * 2000, "vector": list(vectors), "jpg": [b"x" * 1000] * 2000}
    data = pack(table, row_group_size=500, compression="none", use_dictionary=False)
    monkeypatch.setattr("clipmill.pipeline.inputs.parquet_input._BLOCK", 1 << 18)
    assert len(data) > 30 << 20
    assert len(in_memory(data)) == 2000
    assert sum(fetched) < 16 << 20
    assert max(fetched) <= (1 << 18) + 1


def test_nothing_is_fetched_twice(fetched: list[int]) -> None:
    images = [np.random.default_rng(i).bytes(100_000) for i in range(300)]
    data = pack({"image": images, **{f"c{i}": ["x"] * 300 for i in range(20)}}, row_group_size=100)
    assert [s.image for s in in_memory(data)] == images
    assert sum(fetched) <= len(data) + 2 * (4 << 20)  # the last block, read first, may have to be read again


def test_an_abandoned_stream_closes_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[remote.RemoteFile] = []
    real = remote.RemoteFile

    def noted(*args: Any) -> remote.RemoteFile:
        opened.append(real(*args))
        return opened[-1]

    monkeypatch.setattr("clipmill.pipeline.inputs.parquet_input.RemoteFile", noted)
    MemoryFileSystem().pipe("/shards/x.parquet", pack({"image": [b"x"] * 100}))
    samples = read_samples(Shard("memory://shards/x.parquet"))
    next(samples)
    samples.close()
    assert opened[0].closed


def test_web_servers_without_byte_ranges_are_refused_in_words(tmp_path: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    (tmp_path / "x.parquet").write_bytes(pack({"image": [b"x"]}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ShardError, match="no byte ranges"):
            list(read_samples(Shard(f"http://127.0.0.1:{server.server_port}/x.parquet")))
        with pytest.raises(ShardError, match="no such file"):
            list(read_samples(Shard(f"http://127.0.0.1:{server.server_port}/y.parquet")))
    finally:
        server.shutdown()
        server.server_close()


CELLS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.binary(max_size=50)),
        st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=9)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(CELLS, st.integers(1, 9), st.sampled_from(["none", "snappy", "zstd"]), st.booleans())
def test_what_is_written_is_what_is_read(cells: list[Any], group: int, compression: str, in_struct: bool) -> None:
    images = [image for image, _ in cells]
    texts = [text for _, text in cells]
    column = pa.array([None if i is None else {"bytes": i, "path": None} for i in images] if in_struct else images,
                      STRUCT if in_struct else pa.binary())  # fmt: skip
    data = pack({"id": pa.array(texts, pa.string()), "image": column}, row_group_size=group, compression=compression)
    samples = in_memory(data)
    assert [(s.row, s.image, s.metadata["id"], s.error) for s in samples] == [
        (i, image, text, None) for i, (image, text) in enumerate(cells)
    ]
    assert [s.key for s in samples] == [str(i) if text is None else text for i, text in enumerate(texts)]


DAMAGED = [
    pack({"image": [bytes([i]) * 90 for i in range(64)], "caption": [f"c{i % 3}" for i in range(64)]}, **options)
    for options in ({"row_group_size": 20}, {"compression": "zstd", "write_page_checksum": True, "row_group_size": 30})
]


@settings(deadline=None)
@given(st.data())
def test_flipped_and_missing_bytes_give_rows_or_a_shard_error(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(DAMAGED)))
    for _ in range(data.draw(st.integers(0, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(file)))
        del file[at : at + data.draw(st.integers(1, 99))]
    try:
        samples = in_memory(bytes(file))
    except ShardError as error:
        assert "memory://shards/x.parquet" in str(error)
    else:
        assert [s.row for s in samples] == list(range(len(samples)))
        assert all(s.error is None for s in samples[:-1])
