"""Shards whose keys are several samples, or whose images are elsewhere in the tar: what was embedded is found again."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from clipmill.pipeline.job import ReshardJob
from clipmill.pipeline.resharding.reshard import reshard
from embedded import embed_here
from fakes import jpeg, write_tar
from reshard_kit import Sample, samples, subset_of, tars

pytestmark = pytest.mark.usefixtures("way")


def chosen(source: Path, tmp_path: Path, rows: set[int], caption_key: str | None = None) -> list[Sample]:
    """The files of some rows of a shard, in new shards."""
    made = embed_here([source], tmp_path / "out", caption_key=caption_key)
    subset = subset_of(made, tmp_path / "subset", lambda _, row: row in rows)
    reshard(ReshardJob(subset.output.url, str(tmp_path / "new")))
    return list(samples(tars(str(tmp_path / "new"))).values())


@pytest.mark.parametrize("images_first", [True, False])
def test_samples_that_share_a_key_are_told_apart(tmp_path: Path, images_first: bool) -> None:
    images = [(f"a.{i}.jpg", jpeg(i)) for i in range(4)]
    captions = [(f"a.{i}.txt", b"number %d" % i) for i in range(4)]
    pairs = [file for pair in zip(images, captions, strict=True) for file in pair]
    members = [*images, *captions] if images_first else pairs
    write_tar(tmp_path / "x.tar", [*members, ("a.json", b'{"uid": "u"}'), ("b.jpg", jpeg(9)), ("b.txt", b"b")])
    assert chosen(tmp_path / "x.tar", tmp_path, {1, 3, 4}) == [
        {"1.jpg": jpeg(1), "1.txt": b"number 1", "json": b'{"uid": "u"}'},
        {"3.jpg": jpeg(3), "3.txt": b"number 3", "json": b'{"uid": "u"}'},
        {"jpg": jpeg(9), "txt": b"b"},
    ]


def test_dots_in_keys_go_with_the_keys_and_further_images_are_kept(tmp_path: Path) -> None:
    members = [
        (f"img_{i}.{i}5.{kind}", data) for i in range(5) for kind, data in (("jpg", jpeg(i)), ("txt", b"t%d" % i))
    ]
    members += [("e.depth.jpg", jpeg(8)), ("e.jpg", jpeg(9)), ("e.txt", b"e"), ("e.npy", b"array")]
    write_tar(tmp_path / "x.tar", members)
    assert chosen(tmp_path / "x.tar", tmp_path, {1, 3, 5}) == [
        {"jpg": jpeg(1), "txt": b"t1"},
        {"jpg": jpeg(3), "txt": b"t3"},
        {"depth.jpg": jpeg(8), "jpg": jpeg(9), "txt": b"e", "npy": b"array"},
    ]


def test_captions_under_another_name_are_found_again(tmp_path: Path) -> None:
    members = [(f"a.{i}.{kind}", data) for i in range(3) for kind, data in (("jpg", jpeg(i)), ("alt", b"t%d" % i))]
    write_tar(tmp_path / "x.tar", members)
    assert chosen(tmp_path / "x.tar", tmp_path, {2}, "alt") == [{"jpg": jpeg(2), "alt": b"t2"}]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_become_the_files_that_they_lead_to(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(6):
            for name, data in ((f"{i}.jpg", jpeg(i)), (f"{i}.txt", b"t%d" % i)):
                info = tarfile.TarInfo(name)
                if name in ("2.jpg", "4.jpg"):
                    info.type, info.linkname = kind, "1.jpg" if name == "2.jpg" else "3.jpg"
                else:
                    info.size = len(data)
                tar.addfile(info, io.BytesIO(data) if info.size else None)
    assert chosen(tmp_path / "x.tar", tmp_path, {2, 4, 5}) == [
        {"jpg": jpeg(1), "txt": b"t2"},
        {"jpg": jpeg(3), "txt": b"t4"},
        {"jpg": jpeg(5), "txt": b"t5"},
    ]
