"""Samples out of folders of image files: what belongs together, what is gone, what is fetched side by side."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs import folder_input
from clipmill.pipeline.inputs.grouping import IMAGE_EXTENSIONS
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from fakes import fake_tools, jpeg, parts
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from input_kit import fill

Reader = Callable[[dict[str, bytes]], list[Sample]]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("clipmill.pipeline.storage.retry.time.sleep", waited.append)
    return waited


@pytest.fixture(params=["local", "remote"])
def read(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryFileSystem) -> Reader:
    def samples(files: dict[str, bytes]) -> list[Sample]:
        if request.param == "remote":
            memory.pipe({f"/photos/{name}": data for name, data in files.items()})
            return list(read_samples(Shard("memory://photos/")))
        fill(tmp_path, files)
        return list(read_samples(Shard(f"{tmp_path}/")))

    return samples


def test_files_of_one_stem_are_a_sample_in_order_of_names(read: Reader) -> None:
    files = {"b.jpg": b"2", "a.png": b"1", "a.txt": b"one", "a.json": b'{"uid": "u", "caption": "no"}'}
    files |= {"c.webp": b"3", "c.json": b'{"caption": "from json"}', "d.txt": b"alone"}
    assert read(files) == [
        Sample(0, "a", b"1", b"one", {"uid": "u", "caption": "no"}),
        Sample(1, "b", b"2", no_caption="no file"),
        Sample(2, "c", b"3", "from json", {"caption": "from json"}),
        Sample(3, "d", caption=b"alone", no_image="no file"),
    ]


@pytest.mark.parametrize("extension", sorted(IMAGE_EXTENSIONS))
def test_every_image_extension_is_an_image(read: Reader, extension: str) -> None:
    assert [s.image for s in read({f"1.{extension}": b"x", f"2.{extension.upper()}": b"y"})] == [b"x", b"y"]


def test_every_image_is_a_sample_of_its_own(read: Reader) -> None:
    samples = read({"a.jpg": b"1", "a.png": b"2", "a.TXT": b"both", "a.v2.jpg": b"3", "a.v2.txt": b"third"})
    assert [(s.key, s.image, s.caption) for s in samples] == [
        ("a", b"1", b"both"),
        ("a", b"2", b"both"),
        ("a.v2", b"3", b"third"),
    ]


def test_what_is_no_part_of_a_sample_is_passed_over(read: Reader) -> None:
    files = {"a.jpg": b"1", "._a.jpg": b"x", ".jpg": b"x", "a.npy": b"x", "stats.json": b"{}", "jpg": b"x"}
    samples = read(files | {"deeper/b.jpg": b"x", "_DSC0001.JPG": b"2", "a.jpg.part": b"x", "x.jpg/y": b"x"})
    assert [(s.key, s.image) for s in samples] == [("_DSC0001", b"2"), ("a", b"1")]


def test_broken_json_fails_its_sample(read: Reader) -> None:
    one, two = read({"a.jpg": b"1", "a.json": b"{", "b.jpg": b"2"})
    assert (one.error, two.error) == ("read: json is not valid", None)


def test_empty_and_oversized_files(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_input, "MAX_MEMBER", 1000)
    one, two, three = read({"a.jpg": b"", "b.jpg": bytes(1001), "b.txt": b"t", "c.jpg": bytes(1000)})
    assert (one.image, two.image, two.caption) == (b"", None, b"t")
    assert [one.error, two.error, three.error] == [None, "read: image larger than 256 MiB", None]


def test_names_that_are_no_utf8_are_spelt_out(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"1")
    shard, = list_shards([str(tmp_path)])  # fmt: skip
    assert [(s.key, s.image) for s in read_samples(shard)] == [("caf\\xe9", b"1")]


def test_files_that_cannot_be_read_are_failed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {f"{i}.{e}": b"x" for i in range(4) for e in ("jpg", "txt")})
    real = LocalFileSystem.cat_file
    errors = {"1.jpg": FileNotFoundError(), "2.txt": PermissionError(), "3.jpg": OSError(5, "Input/output error")}

    def cat_file(self: LocalFileSystem, path: str, **kwargs: Any) -> bytes:
        if error := errors.get(Path(path).name):
            raise error
        return bytes(real(self, path, **kwargs))

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    samples = list(read_samples(Shard(f"{tmp_path}/")))
    assert [(s.key, s.image, s.caption, s.error) for s in samples] == [
        ("0", b"x", b"x", None),
        ("1", None, b"x", "read: file is gone (1.jpg)"),
        ("2", b"x", None, "read: permission denied (2.txt)"),
        ("3", None, b"x", "read: file cannot be read (3.jpg)"),
    ]
    errors["1.jpg"] = OSError(24, "Too many open files")  # is nothing about the file
    with pytest.raises(OSError, match="Too many"):
        list(read_samples(Shard(f"{tmp_path}/")))


class Remote:
    """A memory file system whose requests can be watched and can fail."""

    def __init__(self, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: Callable[[str, int], None] = lambda *_: None  # name, how often it was asked for
        self.calls: dict[str, int] = {}
        real = MemoryFileSystem.cat_file

        def cat_file(store: MemoryFileSystem, path: str, **kwargs: Any) -> bytes:
            name = path.rpartition("/")[2]
            self.calls[name] = self.calls.get(name, 0) + 1
            self.before(name, self.calls[name])
            return bytes(real(store, path, **kwargs))

        monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)


@pytest.fixture
def store(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> Remote:
    memory.pipe({f"/photos/{i:03d}.jpg": bytes([i]) for i in range(100)})
    return Remote(memory, monkeypatch)


PHOTOS = Shard("memory://photos/")


def test_passing_failures_of_the_storage_are_tried_again(store: Remote) -> None:
    def flaky(name: str, attempt: int) -> None:
        if attempt < 3:
            raise ConnectionResetError

    store.before = flaky
    assert [s.image for s in read_samples(PHOTOS)] == [bytes([i]) for i in range(100)]
    assert set(store.calls.values()) == {3}


def test_a_remote_file_that_vanishes_is_a_failed_row(store: Remote) -> None:
    def gone(name: str, _: int) -> None:
        if name == "050.jpg":
            raise FileNotFoundError

    store.before = gone
    samples = list(read_samples(PHOTOS))
    assert [s.row for s in samples if s.error] == [50]
    assert samples[50].error == "read: file is gone (050.jpg)"
    assert store.calls["050.jpg"] == 1


def test_storage_that_keeps_failing_is_no_row(store: Remote) -> None:
    def down(name: str, _: int) -> None:
        if name >= "050.jpg":
            raise TimeoutError("down")

    store.before = down
    rows = []
    with pytest.raises(TimeoutError, match="down"):
        rows += [s.row for s in read_samples(PHOTOS)]

    def denied(*_: Any) -> None:
        raise PermissionError

    store.before = denied
    with pytest.raises(ShardError, match="permission denied"):
        list(read_samples(PHOTOS))


def test_files_are_fetched_side_by_side_but_not_all_at_once(store: Remote) -> None:
    together = threading.Barrier(8, timeout=20)

    def wait(name: str, _: int) -> None:
        if name < "008.jpg":
            together.wait()

    store.before = wait
    samples = read_samples(PHOTOS)
    assert next(samples).image == b"\0"
    assert len(store.calls) <= folder_input._AHEAD + 1
    assert [s.row for s in samples] == list(range(1, 100))


def test_few_bytes_are_held(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_input, "_AHEAD_BYTES", 3)
    samples = read_samples(PHOTOS)
    assert next(samples).row == 0
    assert len(store.calls) <= 4


def test_an_abandoned_stream_stops_its_threads(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    stop = threading.Event()

    def fails(name: str, _: int) -> None:
        if name > "000.jpg":
            raise ConnectionResetError

    monkeypatch.setattr("clipmill.pipeline.storage.retry.time.sleep", lambda _: stop.wait(20))
    store.before = fails
    samples = read_samples(PHOTOS)
    assert next(samples).row == 0
    samples.close()
    stop.set()
    until = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert threading.active_count() <= before
    assert max(store.calls.values()) <= 2


def test_what_is_no_folder_of_images_is_a_shard_error(tmp_path: Path, memory: MemoryFileSystem) -> None:
    fill(tmp_path, {"texts/a.txt": b"a"})
    for url, reason in (
        (f"{tmp_path}/gone/", "no such file or folder"),
        (f"{tmp_path}/texts/", "no image files"),
        ("memory://gone/", "no such file or folder"),
        ("fish://gone/", "Protocol"),
    ):
        with pytest.raises(ShardError, match=reason):
            list(read_samples(Shard(url)))


def test_a_folder_becomes_a_part_of_its_name(tmp_path: Path) -> None:
    files = {f"photos/{i:02d}.jpg": jpeg(i) for i in range(40)}
    files |= {f"photos/{i:02d}.txt": f"caption {i}".encode() for i in range(30)}
    files |= {f"photos/{i:02d}.json": json.dumps({"uid": f"u{i}"}).encode() for i in range(40)}
    fill(tmp_path, files | {"photos/07.jpg": b"no image"})
    output = Output.at(str(tmp_path / "out"))
    output.prepare()
    [shard] = list_shards([str(tmp_path / "photos")])
    stats = embed_shard(shard, fake_tools(), output)
    assert (stats.rows, stats.embedded) == (40, 39)
    assert [path.name.rpartition("-")[0] for path in Path(output.url).glob("data/*.parquet")] == ["photos"]
    rows = parts(output.url)
    assert [row["key"] for row in rows] == [f"{i:02d}" for i in range(40)]
    assert [row["uid"] for row in rows] == [f"u{i}" for i in range(40)]
    assert [row["caption"] for row in rows] == [f"caption {i}" if i < 30 else None for i in range(40)]
    assert [row["row"] for row in rows if row["error"]] == [7]
    assert {row["image_offset"] for row in rows} == {None}
