"""Links in folders of images: followed within the folder, refused out of it."""

from pathlib import Path

import pytest
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard
from input_kit import fill


def test_links_are_followed_within_the_folder_and_dead_ones_are_failed_rows(tmp_path: Path) -> None:
    fill(tmp_path, {"folder.jpg/y": b"", "photos/data/x": b"1", "photos/c.jpg": b"3"})
    photos = tmp_path / "photos"
    (photos / "a.jpg").symlink_to("data/x")
    (photos / "b.jpg").symlink_to("data/gone")
    (photos / "d.jpg").symlink_to("../folder.jpg")
    (photos / "e.jpg").symlink_to("e.jpg")
    samples = read_samples(Shard(f"{photos}/"))
    assert [(s.key, s.image, s.error) for s in samples] == [
        ("a", b"1", None),
        ("b", None, "read: file is gone (b.jpg)"),
        ("c", b"3", None),
        ("e", None, "read: file cannot be read (e.jpg)"),
    ]


@pytest.mark.parametrize("target", ["../secret", "/etc/hostname", "loop/../../secret", "../gone", "../photos-2/x"])
def test_links_out_of_the_folder_are_failed_rows_whatever_they_lead_to(tmp_path: Path, target: str) -> None:
    fill(
        tmp_path, {"secret": b"s", "photos-2/x": b"s", "photos/a.jpg": b"1", "photos/b.jpg": b"2", "photos/loop/x": b""}
    )
    (tmp_path / "photos/a.txt").symlink_to(target)
    (tmp_path / "photos/c.jpg").symlink_to(target)
    (tmp_path / "photos/metadata.txt").symlink_to("a.txt")  # by way of another link
    (tmp_path / "linked").symlink_to("photos")
    for folder in ("photos", "linked"):
        rows = [(s.key, s.image, s.caption, s.error) for s in read_samples(Shard(f"{tmp_path}/{folder}/"))]
        assert rows == [
            ("a", b"1", None, "read: link to a file outside the folder (a.txt)"),
            ("b", b"2", None, None),
            ("c", None, None, "read: link to a file outside the folder (c.jpg)"),
            ("metadata", None, None, "read: link to a file outside the folder (metadata.txt)"),
        ]
