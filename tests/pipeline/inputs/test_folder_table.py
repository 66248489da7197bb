"""`metadata.jsonl` and `metadata.csv` in folders of images."""

import json
from pathlib import Path

import pytest
from clipmill.pipeline.choices import SampleKeys
from clipmill.pipeline.errors import ShardError
from clipmill.pipeline.inputs import folder_table
from clipmill.pipeline.inputs.listing import list_shards
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard

ROWS = [{"file_name": "1.jpg", "text": "one", "uid": "u"}, {"file_name": "./2.png", "text": "two"}]
JSONL = "\n".join(map(json.dumps, ROWS)).encode()
CSV = b'file_name,text,uid\n1.jpg,one,u\n./2.png,"two",\n'


def read(folder: Path, name: str, table: bytes, keys: SampleKeys = SampleKeys()) -> list[Sample]:
    for image in ("1.jpg", "2.png", "3.jpg"):
        (folder / image).write_bytes(image.encode())
    (folder / name).write_bytes(table)
    return list(read_samples(Shard(f"{folder}/"), keys=keys))


@pytest.mark.parametrize(("name", "table"), [("metadata.jsonl", JSONL), ("metadata.csv", CSV)])
def test_rows_give_captions_and_fields(tmp_path: Path, name: str, table: bytes) -> None:
    samples = read(tmp_path, name, table)
    assert [(s.key, s.image, s.caption) for s in samples] == [
        ("1", b"1.jpg", "one"),
        ("2", b"2.png", "two"),
        ("3", b"3.jpg", None),
    ]
    assert samples[0].metadata["uid"] == "u"
    assert samples[2].no_caption == "no file"


def test_files_beside_an_image_go_before_the_table(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes(b"own")
    (tmp_path / "2.json").write_bytes(b'{"uid": "own"}')
    one, two, _ = read(tmp_path, "metadata.jsonl", JSONL)
    assert (one.caption, one.metadata["uid"]) == (b"own", "u")
    assert (two.caption, two.metadata["uid"]) == ("two", "own")


def test_the_column_can_be_named(tmp_path: Path) -> None:
    rows = [{"file_name": f"{i}.jpg", "text": "no", "objects": {"captions": ["yes"]}} for i in (1, 3)]
    table = "\n".join(map(json.dumps, rows)).encode()
    keys = SampleKeys(caption=("objects.captions",))
    assert [s.caption for s in read(tmp_path, "metadata.jsonl", table, keys)] == ["yes", None, "yes"]


def test_rows_without_a_file_are_failed_rows(tmp_path: Path) -> None:
    rows = [*ROWS, {"file_name": "gone.jpg", "text": "g"}, {"file_name": "deeper/4.jpg", "text": "d"}]
    samples = read(tmp_path, "metadata.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert [(s.key, s.caption, s.error) for s in samples[3:]] == [
        ("gone", "g", "read: the folder's table names a file that is not in it (gone.jpg)"),
        ("deeper/4", "d", "read: the folder's table names a file that is not in it (deeper/4.jpg)"),
    ]


@pytest.mark.parametrize(
    ("name", "table", "reason"),
    [
        ("metadata.jsonl", b'{"file_name": "1.jpg"}\n{"file_name"\n', "not valid JSON, one object a line: line 2"),
        ("metadata.jsonl", b"[" * 100_000, "not valid JSON, one object a line: line 1: nested too deep"),
        ("metadata.jsonl", b'{"name": "1.jpg"}', "line 1 has no file_name"),
        ("metadata.csv", b"name,text\n1.jpg,one\n", "line 2 has no file_name"),
        ("metadata.csv", b"file_name,text\n1.jpg,\xff\n", "not valid CSV"),
        ("metadata.csv", b'file_name,text\n1.jpg,"' + b"x" * 200_000 + b'"\n', "not valid CSV"),
    ],
)
def test_a_broken_table_is_named_with_its_line(tmp_path: Path, name: str, table: bytes, reason: str) -> None:
    with pytest.raises(ShardError, match=reason) as caught:
        read(tmp_path, name, table)
    assert f"{tmp_path}/{name}: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.pipeline.inputs.folder_input.MAX_TABLE", 10)
    monkeypatch.setattr(folder_table, "MAX_TABLE", 10)
    with pytest.raises(ShardError, match=r"metadata\.jsonl: larger than"):
        read(tmp_path, "metadata.jsonl", JSONL)


def test_the_folders_etag_changes_with_its_table(tmp_path: Path) -> None:
    read(tmp_path, "metadata.jsonl", JSONL)
    before = list_shards([str(tmp_path)])[0].etag
    (tmp_path / "metadata.jsonl").write_bytes(JSONL + b"\n")
    assert list_shards([str(tmp_path)])[0].etag != before
