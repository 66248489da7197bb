"""`clipmill export` as people and scripts see it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from console import Console, console
from made import make_dataset, unit_vectors
from side_kit import write_side


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return console(monkeypatch, capsys)


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    rows = {
        "image_embedding": unit_vectors(0, 4),
        "text_embedding": unit_vectors(1, 4),
        "width": [10] * 4,
        "caption_tokens": [5, 5, None, 5],
        "error": [None, None, None, "decode: not an image"],
    }
    return make_dataset(tmp_path / "in", [rows]).url


def test_it_tells_what_was_exported_left_out_and_where(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    command = ("export", dataset, "-o", tmp_path / "out", "--to", "datacomp")
    ran = clipmill(*command)
    assert (ran.code, ran.err) == (0, "")
    assert "4 = 2 exported + 1 failed + 1 without image or caption" in ran.out
    assert "3 rows have no uid" in ran.out
    assert ran.out.endswith(f"datacomp in {tmp_path / 'out'}\n")
    assert clipmill(*command).out.startswith("nothing to do: ")


def test_as_json_it_is_one_object(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    ran = clipmill("export", dataset, "-o", tmp_path / "out", "--to", "clip-retrieval", "--json")
    found = json.loads(ran.out)
    assert (found["rows"], found["exported"], found["files"], found["done_before"]) == (4, 2, 1, 0)


def test_columns_of_a_side_table_are_named_by_options(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    scores = write_side(tmp_path / "s", Dataset.open(dataset), lambda _: {"score": [4.0, 3.0, 2.0, 1.0]})
    command = ("export", dataset, "-o", tmp_path / "out", "--to", "datacomp", "--join", f"s={scores}")
    ran = clipmill(*command)
    assert ran.code == 2
    assert ran.complaint() == f"--join s={scores}: none of its columns is named; add --column s.NAME, or leave it out"
    assert clipmill(*command, "--column", "s.score").code == 0
    (table,) = (tmp_path / "out").glob("*.parquet")
    assert pq.read_table(table)["s.score"].to_pylist() == [4.0, 3.0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--to", "csv"), "--to"),
        (("--to", "iceberg", "--within", "x"), "registers whole parts"),
        (("--to", "datacomp", "--within", "nowhere"), "is not a subset"),
        ((), "Missing option '--to'"),
    ],
)
def test_what_is_wrong_is_one_line(
    clipmill: Console, dataset: str, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    ran = clipmill("export", dataset, "-o", tmp_path / "out", *more)
    assert (ran.code, said in ran.complaint()) == (2, True)
