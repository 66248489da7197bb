"""The dense copy of a column: as stored, made once, made again when the dataset changes, whole or not at all."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline.dataset.dataset import Dataset, vectors_of
from clipmill.pipeline.errors import InfrastructureError, InputError, OutputError
from clipmill.pipeline.searching import dense as module
from clipmill.pipeline.searching.dense import column_of, dense
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from fakes import Ran
from made import make_dataset, unit_vectors

COLUMN = "image_embedding"


@pytest.fixture(autouse=True)
def cache_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "search"


def test_it_holds_what_the_dataset_holds(ran: Ran) -> None:
    dataset = Dataset.open(str(ran.out))
    told: list[tuple[int, int | None]] = []
    copy = dense(NumberedRows.of(dataset), COLUMN, lambda *bytes_: told.append(bytes_))
    stored = [vectors_of(dataset.read(part, [COLUMN])[COLUMN]) for part in dataset.parts]
    assert np.array_equal(copy.vectors, np.concatenate([vectors for vectors, _ in stored]))
    assert np.array_equal(copy.present, np.concatenate([present for _, present in stored]))
    assert (copy.vectors.dtype, copy.present.sum()) == (np.float16, 108)
    assert told[-1] == (120 * 256 * 2, 120 * 256 * 2) and len(told) == 3


def test_it_is_made_once_for_each_version_of_the_dataset(tmp_path: Path, cache_here: Path) -> None:
    def made(rows: int, parts: int = 1) -> NumberedRows:
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        return NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: unit_vectors(0, rows)}] * parts))

    told: list[int] = []
    numbered = made(10)
    for _ in range(2):
        dense(numbered, COLUMN, lambda *_: told.append(1))
    assert len(told) == 1
    assert len(dense(made(10, parts=2), COLUMN).vectors) == 20
    assert len([path for path in cache_here.glob("*/*") if path.is_dir()]) == 1  # the older one is gone


def test_only_new_parts_are_copied(tmp_path: Path, cache_here: Path) -> None:
    def copied(*seeds: int) -> int:
        """Bytes copied for a dataset of parts of ten rows, by their seeds. The copy holds what they hold."""
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        vectors = [unit_vectors(seed, 10 + seed, 64) for seed in seeds]
        numbered = NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: some} for some in vectors], dim=64))
        total = [0]
        copy = dense(numbered, COLUMN, lambda _, of: total.append(of or 0))
        assert np.array_equal(np.asarray(copy.vectors), np.concatenate(vectors).astype(np.float16))
        assert copy.present.all() and len(copy.present) == len(copy.vectors) and copy.longest < 1.01
        return total[-1] // (64 * 2)

    assert copied(0, 1, 2) == 10 + 11 + 12
    assert copied(0, 1, 2) == 0
    assert copied(0, 1, 2, 3) == 13  # at the end
    assert copied(0, 4, 2, 3) == 14  # one made anew: its name is the same, its bytes are not
    assert copied(0, 4, 2) == 0  # one is gone
    assert copied(7, 8) == 17 + 18  # nothing of it is used any more: made anew
    (file,) = cache_here.glob("*/*/vectors.bin")
    assert file.stat().st_size == (17 + 18) * 64 * 2


def test_a_copy_that_broke_off_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    vectors = [unit_vectors(seed, 10) for seed in range(3)]
    numbered = NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: some} for some in vectors]))
    told: list[tuple[int, int | None]] = []

    def stop(*bytes_: Any) -> None:
        told.append(bytes_)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dense(numbered, COLUMN, stop)
    copy = dense(numbered, COLUMN, stop)
    assert told == [(80, 240), (160, 240), (80, 160), (160, 160)]  # the second part was not in the record yet
    assert np.array_equal(copy.vectors, np.concatenate(vectors).astype(np.float16))


def test_a_copy_that_broke_off_at_once_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered = NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: unit_vectors(0, 10)}] * 2))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dense(numbered, COLUMN, stop)
    assert np.array_equal(dense(numbered, COLUMN).vectors, np.tile(unit_vectors(0, 10).astype(np.float16), (2, 1)))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_it_knows_which_rows_are_sound_and_how_long_they_are(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(0, 1), 6, axis=0) * np.array([[1], [0.5], [3], [1], [9], [1]])
    vectors[4, 1], vectors[1, 2] = np.inf, -np.inf
    vectors[3] = np.nan  # has none
    copy = dense(NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: vectors[:3]}, {COLUMN: vectors[3:]}])), COLUMN)
    assert copy.present.tolist() == [True, False, True, False, False, True]
    assert copy.longest == pytest.approx(3, rel=1e-3)


def test_a_dataset_without_rows_has_an_empty_one(tmp_path: Path) -> None:
    copy = dense(NumberedRows.of(make_dataset(tmp_path / "in", [{}])), COLUMN)
    assert copy.vectors.shape == (0, 4) and copy.present.shape == (0,)


def test_a_disk_that_is_too_small_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")(100)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    numbered = NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: unit_vectors(0, 100)}]))
    with pytest.raises(OutputError, match="set CLIPMILL_CACHE to a folder with more"):
        dense(numbered, COLUMN)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "file"))
    numbered = NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: unit_vectors(0, 3)}]))
    with pytest.raises(OutputError, match="set CLIPMILL_CACHE to a folder"):
        dense(numbered, COLUMN)


def test_a_part_that_is_not_what_the_manifest_says_is_told(tmp_path: Path) -> None:
    numbered = NumberedRows.of(make_dataset(tmp_path / "in", [{COLUMN: unit_vectors(0, 10)}]))
    make_dataset(tmp_path / "in", [{COLUMN: unit_vectors(0, 11)}])
    with pytest.raises(InfrastructureError, match="run `clipmill embed` again"):
        dense(numbered, COLUMN)


def test_columns_go_by_side_and_alias(tmp_path: Path) -> None:
    several = make_dataset(tmp_path / "a", [{}], models=(("b32", "ViT-B-32"), ("l14", "ViT-L-14")))
    assert column_of(several, "text", "l14") == "l14_text_embedding"
    assert column_of(several, "image", None) == "b32_image_embedding"
    alone = make_dataset(tmp_path / "b", [{}], embeds="images")
    with pytest.raises(InputError, match="embeddings of images only, not of texts"):
        column_of(alone, "text", None)
