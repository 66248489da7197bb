"""DataComp's subset files: what NumPy loads is what a plain computation gives."""

from __future__ import annotations

import io
import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.errors import InfrastructureError, InputError, OutputError
from made import make_dataset
from narrow_kit import garble, small_tables, tables
from s3 import Bucket

UIDS = [uuid.UUID(int=random.Random(row).getrandbits(128)).hex for row in range(300)]
UIDS[7] = "f" * 32
UIDS[8] = UIDS[9][:16] + "0" * 16  # two that share their upper half
UIDS[11] = UIDS[10].upper()


def job(folder: Path, uids: Sequence[str | None] = UIDS) -> FilterJob:
    parts = [{"uid": uids[start : start + 70]} for start in range(0, len(uids), 70)]
    make_dataset(folder / "dataset", parts)
    return FilterJob(
        str(folder / "dataset"), str(folder / "subset"), where=["row % 3 > 0"], uids=str(folder / "uids.npy")
    )


def expected() -> np.ndarray:
    kept = [uid for place, uid in enumerate(UIDS) if place % 70 % 3]
    return np.sort(np.array([(int(uid[:16], 16), int(uid[16:], 16)) for uid in kept], np.dtype("u8,u8")))


def test_the_file_is_the_sorted_halves_of_the_kept_uids(tmp_path: Path) -> None:
    summary = filter(job(tmp_path))
    found = np.load(tmp_path / "uids.npy")
    assert found.dtype == np.dtype("u8,u8")
    assert np.array_equal(found, expected())
    assert summary.uids == str(tmp_path / "uids.npy") and summary.funnel.kept == len(found)
    np.load(tmp_path / "uids.npy", mmap_mode="r")  # as the resharder opens it
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_they_can_be_asked_for_later(tmp_path: Path) -> None:
    asked = job(tmp_path)
    filter(replace(asked, uids=None))
    summary = filter(asked)
    assert summary.done_before and np.array_equal(np.load(tmp_path / "uids.npy"), expected())


def test_a_file_that_holds_no_uids_is_kept(tmp_path: Path) -> None:
    asked = job(tmp_path)
    np.save(tmp_path / "uids.npy", np.zeros(3))
    theirs = (tmp_path / "uids.npy").read_bytes()
    with pytest.raises(OutputError, match=r"uids\.npy is there already, and `clipmill filter` did not write it"):
        filter(asked)
    assert (tmp_path / "uids.npy").read_bytes() == theirs and not (tmp_path / "subset").exists()
    filter(replace(asked, overwrite=True))
    assert np.array_equal(np.load(tmp_path / "uids.npy"), expected())
    filter(asked)  # which replaces its own


def test_no_row_is_an_empty_array(tmp_path: Path) -> None:
    filter(replace(job(tmp_path), where=["false"]))
    assert np.load(tmp_path / "uids.npy").shape == (0,)


@pytest.mark.parametrize(
    ("uid", "complaint"),
    [
        (None, "the sample with key 000010002 of /made/00001.tar has no uid"),
        ("abc", "has 'abc' as uid, which is not 32 hexadecimal digits"),
        ("g" * 32, "which is not 32 hexadecimal digits"),
        ("0" * 33, "which is not 32 hexadecimal digits"),
    ],
)
def test_a_kept_row_without_a_uid_is_named(uid: str | None, complaint: str, tmp_path: Path) -> None:
    uids: list[str | None] = [*UIDS]
    uids[0] = None  # not kept
    uids[72] = uid
    with pytest.raises(InputError, match=complaint):
        filter(job(tmp_path, uids))
    assert not (tmp_path / "uids.npy").exists()


def test_a_damaged_narrow_table_is_read_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tables(monkeypatch)
    asked = job(tmp_path)
    filter(replace(asked, uids=None))
    before, broken = tables(asked.dataset), garble(asked.dataset)
    filter(asked)
    assert np.array_equal(np.load(tmp_path / "uids.npy"), expected())
    assert tables(asked.dataset) == before - {broken}
    part = next((tmp_path / "dataset" / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(InfrastructureError, match=r"dataset cannot be read: .*") as told:
        filter(asked)
    assert "\n" not in str(told.value)


def test_where_it_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/uids\.npy: cannot be written to"):
        filter(replace(job(tmp_path), uids=str(tmp_path / "file/uids.npy")))


def test_they_can_go_to_an_object_store(tmp_path: Path, bucket: Bucket) -> None:
    filter(replace(job(tmp_path), uids=bucket.url("uids.npy")))
    assert np.array_equal(np.load(io.BytesIO(bucket.objects()["uids.npy"])), expected())
