"""`clipmill demo` as a newcomer runs it: two commands, and what it prints holds."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clipmill.jobs import demo
from clipmill.jobs.demo import QUERIES, example_query
from console import Ran, started

pytestmark = pytest.mark.long

PAIRS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("somebody") / "my demo"  # with a blank, as home folders may have


@pytest.fixture(scope="module")
def first(folder: Path) -> Ran:
    return started("demo", "--out", folder, "--pairs", PAIRS)


def number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    assert match, f"{pattern} in:\n{text}"
    return float(match[1].replace(",", ""))


def test_the_demo_ends_well(first: Ran) -> None:
    assert first.code == 0, first.err
    assert "Traceback" not in first.err and "Warning" not in first.err


def test_every_pair_is_accounted_for(first: Ran, folder: Path) -> None:
    assert f"dataset     {PAIRS} rows = {PAIRS - 12} embedded + 12 failed, 8 of 8 shards" in first.out
    reasons = re.findall(r"^ +(\d+)  ((?:read|decode|tokenise): .*)$", first.out, re.MULTILINE)
    assert sum(int(count) for count, _ in reasons) == 12 and len(reasons) >= 6
    rows = pq.read_table(folder / "embeddings", columns=["key", "error"])
    assert len(rows) == PAIRS and rows["error"].null_count == PAIRS - 12
    assert (
        len(list((folder / "shards").glob("*.tar"))) == len(list((folder / "embeddings").glob("data/*.parquet"))) == 8
    )


def test_the_figures_are_there_and_good(first: Ran) -> None:
    """The demo's scenes are of a series that training did not use; its captions leave much unsaid."""
    assert number(r"zero-shot +([\d.]+)% of [\d,]+ pictures", first.out) > 90
    assert number(r"text to image +recall@1 ([\d.]+)%", first.out) > 60
    assert number(r"image to text +recall@1 ([\d.]+)%", first.out) > 60
    assert number(r"ROC-AUC ([\d.]+)", first.out) > 0.98
    assert number(r"ROC-AUC [\d.]+ \([\d,]+ right, ([\d,]+) wrong\)", first.out) > 30
    assert number(r"shards, [\d.,]+ s, ([\d.,]+)/s", first.out) > 0


def test_each_query_finds_three_captions_best_first(first: Ran) -> None:
    for query in QUERIES:
        found = first.out.split(f"“{query}”\n")[1].splitlines()[:3]
        scores = [float(line.split()[0]) for line in found]
        assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]
        assert all(re.match(r"  \d\.\d{3}  \d{9}  \S", line) for line in found)


def test_the_pairs_kept_are_the_best_and_the_right_ones(first: Ran, folder: Path) -> None:
    every = pq.read_table(folder / "embeddings", columns=["similarity", "caption_is_right", "error"]).to_pylist()
    embedded = [row for row in every if row["error"] is None]
    right = sum(row["caption_is_right"] for row in embedded)
    kept = pq.read_table(folder / "kept")
    assert len(kept) == right + 1  # as DataComp counts: see `filter`
    best = sorted(row["similarity"] for row in embedded)[-len(kept) :]
    assert sorted(kept["similarity"].to_pylist()) == best
    assert number(r"wrong captions are gone \(precision ([\d.]+)%", first.out) >= 95
    assert number(r"wrong captions are gone \(precision [\d.]+%, recall ([\d.]+)%\)", first.out) >= 95


def test_the_command_to_try_works_as_printed(first: Ran, tmp_path: Path) -> None:
    """In a shell, in another folder, as somebody who copies the line does."""
    (line,) = (line for line in first.out.splitlines() if "import duckdb" in line)
    ran = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "caption_is_right" in ran.stdout and ran.stdout.count("false") >= 4  # the worst fit is wrong captions


@pytest.mark.parametrize("name", ["plain", "a blank", 'quo"te', "it's", "do$llar", "back`tick", "ex!claim"])
def test_the_command_works_whatever_the_folder_is_called(name: str, first: Ran, folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(folder / "embeddings")
    command = example_query(tmp_path / name)
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_demo_again_uses_what_is_there(first: Ran, folder: Path) -> None:
    files = written(folder)
    again = started("demo", "--out", folder, "--pairs", PAIRS)
    assert again.code == 0
    assert f"the shards in {folder / 'shards'} are there already" in again.out
    assert "nothing to do: all 8 shards are embedded already" in again.out
    assert written(folder) == files
    assert after_section(3, again) == after_section(3, first)


def written(folder: Path) -> dict[Path, int]:
    """The shards, and the parts of all steps, with when they were written."""
    files = [*folder.glob("*/*.tar"), *folder.glob("*/data/*.parquet")]
    assert files
    return {path: path.stat().st_mtime_ns for path in files}


def after_section(number: int, ran: Ran) -> str:
    return ran.out[ran.out.index(f"\n{number}. ") :]


def test_a_demo_that_was_stopped_while_drawing_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Drawn(Exception): ...

    def embed(*_: object, **__: object) -> None:
        raise Drawn

    (tmp_path / "shards.unfinished").mkdir()
    (tmp_path / "shards.unfinished" / "00000.tar").write_bytes(b"half of a")
    monkeypatch.setattr(demo, "embed", embed)
    with pytest.raises(Drawn):
        demo.run_demo(tmp_path, 200)
    assert not (tmp_path / "shards.unfinished").exists()
    assert all(tarfile.is_tarfile(tar) for tar in (tmp_path / "shards").glob("*.tar"))
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 8


def test_another_demo_does_not_mix_with_this_one(first: Ran, folder: Path) -> None:
    ran = started("demo", "--out", folder, "--pairs", 300)
    assert ran.code == 2
    assert ran.err.splitlines()[-1].endswith(
        "holds other shards than this demo's; choose another --out, or delete the folder"
    )
