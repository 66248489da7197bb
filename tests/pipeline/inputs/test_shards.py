"""Samples out of tars: grouping, what is missing, what is broken."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs.grouping import IMAGE_EXTENSIONS
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

Content = list[tuple[str, bytes]]
Reader = Callable[..., list[Sample]]

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 3


def pack(content: Content) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    def samples(content: bytes | Content, name: str = "00000.tar") -> list[Sample]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else pack(content))
        return list(read_samples(Shard(str(path))))

    return samples


def in_memory(data: bytes) -> list[Sample]:
    MemoryFileSystem().pipe("/shards/x.tar", data)
    return list(read_samples(Shard("memory://shards/x.tar")))


def test_an_img2dataset_tar_gives_its_rows_in_order(read: Reader) -> None:
    fields = [{"caption": f"text {i}", "url": f"http://x/{i}", "width": 3, "exif": "{}", "uid": None} for i in range(9)]
    content: Content = []
    for i, meta in enumerate(fields):
        key = f"{(i * 7) % 9:09d}"  # download order
        content += [(f"{key}.jpg", JPEG + bytes([i])), (f"{key}.json", json.dumps(meta).encode())]
        content += [(f"{key}.txt", str(meta["caption"]).encode())]
    samples = read(content)
    assert [s.row for s in samples] == list(range(9))
    assert [s.key for s in samples] == [f"{(i * 7) % 9:09d}" for i in range(9)]
    assert [s.image for s in samples] == [JPEG + bytes([i]) for i in range(9)]
    assert [s.caption for s in samples] == [f"text {i}".encode() for i in range(9)]
    assert [s.metadata for s in samples] == fields
    assert all(s.error is None for s in samples)
    archive = pack(content)
    assert all(archive[s.image_offset :].startswith(s.image) for s in samples)


def test_the_caption_falls_back_to_the_json(read: Reader) -> None:
    one, two, three = read(
        [
            ("1.json", b'{"caption": "from json"}'),
            ("2.json", b'{"caption": 7}'),
            ("3.txt", b""),
            ("3.json", b'{"caption": "from json"}'),
        ]
    )
    assert (one.caption, two.caption, three.caption) == ("from json", None, b"")


def test_images_only_and_texts_only_are_samples(read: Reader) -> None:
    assert read([("1.jpg", JPEG), ("2.jpg", JPEG), ("3.txt", b"hi")]) == [
        Sample(0, "1", image=JPEG, image_offset=512, no_caption="no file"),
        Sample(1, "2", image=JPEG, image_offset=512 + 1024 + 512, no_caption="no file"),
        Sample(2, "3", caption=b"hi", no_image="no file"),
    ]


def test_folders_stay_in_the_key_and_only_dots_of_the_file_name_count(read: Reader) -> None:
    samples = read(
        [("a.b/1.jpg", JPEG), ("a.b/1.txt", b"x"), ("c/1.txt", b"y"), ("./d.seg.png", b""), ("./d.txt", b"z")]
    )
    assert [(s.key, s.image, s.caption) for s in samples] == [
        ("a.b/1", JPEG, b"x"),
        ("c/1", None, b"y"),
        ("d", b"", b"z"),
    ]


def test_extensions_are_case_blind(read: Reader) -> None:
    (sample,) = read([("1.JPEG", JPEG), ("1.TXT", b"hi"), ("1.Json", b'{"uid": "u"}')])
    assert (sample.image, sample.caption, sample.metadata) == (JPEG, b"hi", {"uid": "u"})


@pytest.mark.parametrize("extension", sorted(IMAGE_EXTENSIONS))
def test_every_image_extension_is_an_image(read: Reader, extension: str) -> None:
    assert read([(f"1.{extension}", JPEG)])[0].image == JPEG


def test_an_extension_that_comes_back_begins_the_next_sample(read: Reader) -> None:
    content = [("1.jpg", b"a"), ("1.txt", b"b"), ("1.jpg", b"c"), ("1.txt", b"d"), ("2.txt", b"e"), ("1.jpg", b"f")]
    assert [(s.row, s.key, s.image, s.caption) for s in read(content)] == [
        (0, "1", b"a", b"b"),
        (1, "1", b"c", b"d"),
        (2, "2", None, b"e"),
        (3, "1", b"f", None),
    ]


def test_members_that_are_not_adjacent_make_a_sample_each(read: Reader) -> None:
    samples = read([("1.jpg", b"a"), ("2.jpg", b"b"), ("1.txt", b"c"), ("2.txt", b"d"), ("2.json", b"{}")])
    assert [(s.row, s.key, s.image, s.caption) for s in samples] == [
        (0, "1", b"a", None),
        (1, "2", b"b", None),
        (2, "1", None, b"c"),
        (3, "2", None, b"d"),
    ]


def test_a_tar_of_texts_alone(read: Reader) -> None:
    samples = read([(f"{folder}/{i}.txt", f"{folder}{i}".encode()) for folder in "ab" for i in range(3)])
    assert [(s.key, s.image, s.caption) for s in samples] == [
        (f"{folder}/{i}", None, f"{folder}{i}".encode()) for folder in "ab" for i in range(3)
    ]


def test_the_first_of_several_images_counts(read: Reader) -> None:
    (sample,) = read([("1.png", b"first"), ("1.jpg", b"second"), ("1.txt", b"t")])
    assert (sample.image, sample.image_offset) == (b"first", 512)


def test_an_empty_image_is_an_image(read: Reader) -> None:
    assert read([("1.jpg", b""), ("1.png", b"x")])[0].image == b""


def test_what_is_no_part_of_a_sample_is_passed_over(read: Reader) -> None:
    content = [("1.jpg", JPEG), ("._1.jpg", b"x"), ("__MACOSX/1.jpg", b"x"), ("a/.DS_Store", b"x"), ("README", b"x")]
    samples = read([*content, ("1.txt", b"t"), ("1.npy", b"x"), ("3.txt", b"u")])
    assert [(s.row, s.key, s.caption) for s in samples] == [(0, "1", b"t"), (1, "3", b"u")]


def test_a_group_of_files_that_are_not_understood_is_a_failed_row(read: Reader) -> None:
    samples = read([("1.txt", b"t"), ("2.npy", b"x"), ("2.seg.cls", b"x"), ("3.txt", b"u")])
    assert [(s.row, s.key, s.caption) for s in samples] == [(0, "1", b"t"), (1, "2", None), (2, "3", b"u")]
    assert samples[1].error == "read: no file of this sample is an image, a caption or json (.npy, .seg.cls)"
    assert (samples[1].no_image, samples[1].no_caption) == ("not understood", "not understood")


@pytest.mark.parametrize(
    "text", [b"{", b"", b"[]", b"7", b"\xff{}", b'{"a": \xff}', b"[" * 100_000, b"{" * 9, b"9" * 5000]
)
def test_broken_json_fails_its_sample_and_no_other(read: Reader, text: bytes) -> None:
    one, two = read([("1.jpg", JPEG), ("1.txt", b"t"), ("1.json", text), ("2.jpg", JPEG)])
    assert (one.error, one.metadata, two.error) == ("read: json is not valid", {}, None)


def test_keys_and_json_can_be_stored_as_utf8(read: Reader) -> None:
    (sample,) = read([("caf\udce9.json", rb'{"caption": "a\ud800b\ud83d\ude00", "l": [{"\udc00": "\u00e9"}]}')])
    assert sample.key == r"caf\xe9"
    assert sample.caption == "a\ufffdb\U0001f600"
    assert sample.metadata["l"] == [{"\ufffd": "é"}]


def test_an_oversized_image_fails_its_sample(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.pipeline.inputs.tario.members.__defaults__", (1000,))
    one, two = read([("1.jpg", bytes(1001)), ("1.txt", b"t"), ("2.jpg", bytes(1000))])
    assert (one.image, one.error) == (None, "read: image larger than 256 MiB")
    assert two.error is None


def test_compressed_tars_have_no_offsets(read: Reader) -> None:
    content = [("1.jpg", JPEG), ("1.txt", b"t")]
    expected = [Sample(0, "1", JPEG, b"t")]
    assert read(gzip.compress(pack(content)), "x.tar.gz") == expected
    assert read(gzip.compress(pack(content)), "x.tgz") == expected
    assert read(gzip.compress(pack(content)), "x.tar") == expected  # by content
    assert read(pack(content), "y.tar.gz")[0].image_offset == 512


def test_a_compressed_tar_that_breaks_off_ends_with_a_failed_row(read: Reader) -> None:
    whole = pack([(f"{i}.jpg", np.random.default_rng(i).bytes(3000)) for i in range(50)])
    packed = gzip.compress(whole)
    for data in (packed[: len(packed) // 2], packed[: len(packed) // 2] + bytes(99) + packed[len(packed) // 2 + 99 :]):
        for samples in (read(data, "x.tar.gz"), in_memory(data)):
            assert 10 < len(samples) < 50
            assert [s.error for s in samples[:-1]] == [None] * (len(samples) - 1)
            assert (samples[-1].error or "").startswith("read: truncated tar (")


def test_a_broken_sample_is_the_one_failed_row(read: Reader) -> None:
    archive = pack([("1.jpg", JPEG), ("1.txt", b"t"), ("2.jpg", JPEG), ("2.txt", b"hello"), ("3.jpg", JPEG)])
    at = archive.index(b"hello")
    assert [(s.row, s.key, s.error) for s in read(archive[: at + 2])] == [
        (0, "1", None),
        (1, "2", "read: truncated tar (data cut short)"),
    ]
    assert [(s.row, s.key, s.error) for s in read(archive[: at - 100])] == [
        (0, "1", None),
        (1, "2", None),
        (2, "", "read: truncated tar (header cut short)"),
    ]
    third = archive.index(b"3.jpg")
    assert [s.error for s in read(archive[: third + 512 + 9])][2:] == ["read: truncated tar (data cut short)"]


def test_every_truncation_gives_all_whole_samples_and_at_most_one_failed_row() -> None:
    content = [(f"{i}.{e}", d) for i in range(3) for e, d in (("jpg", JPEG), ("json", b'{"a": 1}'), ("txt", b"text"))]
    archive = pack(content)
    whole = in_memory(archive)
    ends = [(3 * 512 + 1024 + 2 * 512) * (i + 1) for i in range(3)]
    for cut in range(512, ends[-1] + 1, 37):
        samples = in_memory(archive[:cut])
        complete = sum(cut >= end for end in ends)
        assert samples[:complete] == whole[:complete]
        assert len(samples) <= complete + 2
        assert sum(s.error is not None for s in samples) <= 1
        if cut not in range(0, len(archive), 512):
            assert samples[-1].error is not None and samples[-1].error.startswith("read: truncated tar (")


@given(st.data())
def test_flipped_bytes_give_rows_or_a_shard_error(data: st.DataObject) -> None:
    archive = bytearray(pack([("1.jpg", JPEG), ("1.json", b'{"a": 1}'), ("2.jpg", JPEG), ("2.txt", b"t")]))
    for _ in range(data.draw(st.integers(1, 8))):
        archive[data.draw(st.integers(0, len(archive) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        samples = in_memory(bytes(archive))
    except ShardError as error:
        assert "memory://shards/x.tar" in str(error)
    else:
        assert [s.row for s in samples] == list(range(len(samples)))


def test_an_empty_tar_has_no_samples(read: Reader) -> None:
    assert read([]) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>" * 200, "not a tar"),
        (b"404", "not a tar"),
        (b"\x1f\x8b" + bytes(600), "not a tar"),
    ],
)
def test_what_is_no_tar_is_a_shard_error(read: Reader, data: bytes, reason: str) -> None:
    with pytest.raises(ShardError, match=reason):
        read(data)


def test_what_cannot_be_opened_is_a_shard_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (str(tmp_path / "x.tar"), str(tmp_path), "memory://nowhere/x.tar", "fish://x.tar"):
        with pytest.raises(ShardError) as caught:
            list(read_samples(Shard(url)))
        assert "\n" not in str(caught.value)

    def denied(*args: Any) -> None:
        raise PermissionError

    monkeypatch.setattr("io.FileIO", denied)
    with pytest.raises(ShardError, match="permission denied"):
        list(read_samples(Shard(str(tmp_path / "x.tar"))))


def test_samples_stream_and_the_file_is_closed_when_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(pack([(f"{i:04d}.jpg", bytes(100_000)) for i in range(200)]))
    opened: list[io.FileIO] = []
    real = io.FileIO

    def noted(path: str) -> io.FileIO:
        opened.append(real(path))
        return opened[-1]

    monkeypatch.setattr("io.FileIO", noted)
    samples = read_samples(Shard(str(path)))
    assert [next(samples).row for _ in range(3)] == [0, 1, 2]
    assert opened[0].tell() < 4 << 20
    samples.close()
    assert opened[0].closed
