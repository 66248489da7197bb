"""Samples of all formats, with few files or many, out of their source shards again."""

from __future__ import annotations

import gzip
import json
import tarfile
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.job import ReshardJob
from clipmill.pipeline.resharding.reshard import reshard
from embedded import embed_here
from fakes import jpeg, write_tar
from reshard_kit import files_of, make_shards, samples, subset_of, tars


def test_compressed_tars_and_folders_give_their_files_as_they_are(tmp_path: Path) -> None:
    (plain,) = make_shards(tmp_path / "tars", 1)
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with tarfile.open(plain) as tar:
        for member in tar:  # extractall's `filter` came with Python 3.11.4, and Debian 12 has 3.11.2
            tar.extract(member, tmp_path / "folder")
    for path in (tmp_path / "folder").glob("*.cls"):
        path.unlink()  # a folder's other files are anybody's
    wanted = [dict(files_of(0, row)) for row in range(20) if row % 7 != 3]
    for source, without in ((packed, ()), (tmp_path / "folder", ("cls",))):
        made = embed_here([source], tmp_path / f"out-{source.name}")
        out = str(tmp_path / f"new-{source.name}")
        assert reshard(ReshardJob(made.url, out)).whole_shards == 1
        expected = [{kind: data for kind, data in sample.items() if kind not in without} for sample in wanted]
        assert list(samples(tars(out)).values()) == expected


def test_parquet_gives_images_as_they_are_and_files_that_say_the_rest(tmp_path: Path) -> None:
    import io

    from PIL import Image

    png = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(png, "PNG")
    images = [jpeg(1), png.getvalue(), b"broken"]
    table = {"image": images, "text": ["one", "two", "three"], "width": [1, None, 3], "key": ["a", "a", "b"]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    made = embed_here([tmp_path / "in.parquet"], tmp_path / "out")
    reshard(ReshardJob(made.url, str(tmp_path / "new")))
    one, two = samples(tars(str(tmp_path / "new"))).values()
    assert (one["jpg"], one["txt"]) == (images[0], b"one")
    assert (two["png"], two["txt"]) == (images[1], b"two")
    assert json.loads(one["json"]) == {"text": "one", "width": 1, "key": "a"}


@pytest.mark.usefixtures("way")
def test_keys_that_come_again_in_a_shard_are_told_apart(tmp_path: Path) -> None:
    members = []
    for i in range(6):  # every sample is called the same
        members += [("a.jpg", jpeg(i)), ("a.txt", f"number {i}".encode())]
    write_tar(tmp_path / "a.tar", members)
    made = embed_here([tmp_path / "a.tar"], tmp_path / "out")
    subset = subset_of(made, tmp_path / "subset", lambda _, row: row in (1, 4))
    reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))
    found = samples(tars(str(tmp_path / "new")))
    assert list(found) == ["000000000", "000000001"]
    assert [sample["txt"] for sample in found.values()] == [b"number 1", b"number 4"]
    assert [sample["jpg"] for sample in found.values()] == [jpeg(1), jpeg(4)]


def test_an_empty_subset_and_only_failures_give_no_shards(dataset: Dataset, tmp_path: Path) -> None:
    subset = subset_of(dataset, tmp_path / "subset", lambda *_: False)
    summary = reshard(ReshardJob(subset.output.url, str(tmp_path / "a")))
    assert (summary.samples, summary.shards) == (0, 0) and tars(str(tmp_path / "a")) == []
    write_tar(tmp_path / "bad.tar", [("a.jpg", b"broken"), ("b.jpg", b"broken, too")])
    failed = embed_here([tmp_path / "bad.tar"], tmp_path / "out")
    assert reshard(ReshardJob(failed.url, str(tmp_path / "b"))).shards == 0


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kinds", [("jpg",), ("txt",), ("txt", "json"), ("jpg", "json")])
def test_images_alone_and_texts_alone_are_samples_too(kinds: tuple[str, ...], tmp_path: Path) -> None:
    every = [[(kind, data) for kind, data in files_of(0, i) if kind in kinds] for i in range(0, 20, 2)]
    write_tar(tmp_path / "a.tar", [(f"{i}.{kind}", data) for i, files in enumerate(every) for kind, data in files])
    made = embed_here([tmp_path / "a.tar"], tmp_path / "out", images="jpg" in kinds, texts="txt" in kinds)
    subset = subset_of(made, tmp_path / "subset", lambda _, row: row in (0, 4, 9))
    reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))
    assert list(samples(tars(str(tmp_path / "new"))).values()) == [dict(every[row]) for row in (0, 4, 9)]


@pytest.mark.usefixtures("way")
def test_captions_among_images_are_found(tmp_path: Path) -> None:
    members = [("a.jpg", jpeg(0)), ("b.txt", b"one"), ("c.txt", b"two"), ("c.json", b"{}"), ("d.jpg", jpeg(1))]
    write_tar(tmp_path / "a.tar", members)
    made = embed_here([tmp_path / "a.tar"], tmp_path / "out")
    subset = subset_of(made, tmp_path / "subset", lambda _, row: row in (1, 2))
    reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))
    assert list(samples(tars(str(tmp_path / "new"))).values()) == [{"txt": b"one"}, {"txt": b"two", "json": b"{}"}]


def test_a_shard_that_broke_off_gives_what_came_before(tmp_path: Path) -> None:
    (path,) = make_shards(tmp_path / "shards", 1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    made = embed_here([path], tmp_path / "out")
    summary = reshard(ReshardJob(made.url, str(tmp_path / "new")))
    whole = [dict(files_of(0, row)) for row in range(20) if row % 7 != 3]
    assert 3 < summary.samples < 17
    assert list(samples(tars(str(tmp_path / "new"))).values()) == whole[: summary.samples]


def test_a_file_too_large_to_be_held_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", jpeg(0)), ("a.mp4", bytes(5000)), ("b.jpg", jpeg(1))])
    made = embed_here([tmp_path / "a.tar"], tmp_path / "out")
    import clipmill.pipeline.inputs.tar_input as tar_input
    from clipmill.pipeline.inputs.tario import members

    monkeypatch.setattr(tar_input, "members", partial(members, max_size=4000))
    reason = r"a\.tar: a\.mp4 cannot be copied \(file larger than 256 MiB\); leave this row out"
    with pytest.raises(InputError, match=reason):
        reshard(ReshardJob(made.url, str(tmp_path / "new")))


def test_what_the_table_of_a_folder_says_comes_along(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(jpeg(ord(name[0])))
    (folder / "metadata.csv").write_text("file_name,prompt,score\na.jpg,a red star,1\nb.jpg,a blue fish,2\n")
    made = embed_here([folder], tmp_path / "out", caption_key="prompt")
    reshard(ReshardJob(made.url, str(tmp_path / "new")))
    one, two, three = samples(tars(str(tmp_path / "new"))).values()
    assert (one["jpg"], one["txt"], two["txt"]) == (jpeg(ord("a")), b"a red star", b"a blue fish")
    assert str(json.loads(one["json"])["score"]) == "1" and json.loads(one["json"])["prompt"] == "a red star"
    assert three == {"jpg": jpeg(ord("c"))}  # of which the table says nothing
