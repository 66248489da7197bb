"""`clipmill search` and `clipmill index` as people and scripts see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clipmill.clipmodel.download import sha256_of
from console import Console, console
from made import make_dataset, unit_vectors

CAPTIONS = ["a red star", "two\nlines\x1b[31m and colour", None, "[bold]brackets[/bold]"]


@pytest.fixture
def clipmill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    monkeypatch.setenv("COLUMNS", "80")
    return console(monkeypatch, capsys)


@pytest.fixture
def dataset(tmp_path: Path, sharp_weights: Path) -> str:
    part: dict[str, Any] = {
        "image_embedding": unit_vectors(3, 4, 256),
        "caption": CAPTIONS,
        "url": ["https://e.org/a", None, None, None],
    }
    return make_dataset(tmp_path / "in", [part], dim=256, weights_sha256=sha256_of([sharp_weights])).url


def test_each_hit_is_a_line_whatever_its_caption_holds(clipmill: Console, dataset: str, sharp_weights: Path) -> None:
    ran = clipmill("search", dataset, "a red star", "-k", "3", "--model", f"tiny={sharp_weights}")
    assert (ran.code, ran.err) == (0, "") and len(ran.out.splitlines()) == 3
    ran = clipmill("search", dataset, "--key", "000000002")
    assert "000000000  a red star  https://e.org/a\n" in ran.out and ran.out.startswith("  1  ")
    assert "two lines [31m and colour" in ran.out and "\x1b" not in ran.out and "[bold]brackets[/bold]" in ran.out


def test_as_json_it_is_one_object(clipmill: Console, dataset: str) -> None:
    found = json.loads(clipmill("search", dataset, "--key", "000000001", "--json").out)
    assert (found["query"], found["side"], found["among"], found["exact"]) == ("000000001", "image", 3, True)
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert {hit["caption"] for hit in found["hits"]} == {CAPTIONS[0], *CAPTIONS[2:]}


def test_where_nothing_can_be_found_it_says_so(clipmill: Console, dataset: str) -> None:
    ran = clipmill("search", dataset, "--key", "000000001", "--where", "row > 7")
    assert (ran.code, ran.out) == (0, "nothing found: no row that is searched has an embedding of its image\n")


def test_an_index_tells_how_good_it_is(clipmill: Console, dataset: str, tmp_path: Path) -> None:
    ran = clipmill("index", dataset, "-o", tmp_path / "index", "--kind", "ivf", "--nlist", "2")
    assert (ran.code, ran.err) == (0, "")
    first, recall, query, where = ran.out.splitlines()
    assert first == "index       ivf of 4 vectors in 4 rows, 2 cells" and where == f"in {tmp_path / 'index'}"
    assert recall.startswith("recall@10   100.0% for images") and "exact search" in query
    assert clipmill("search", dataset, "--key", "000000000", "--index", tmp_path / "index").out.count("\n") == 3
    assert clipmill("index", dataset, "-o", tmp_path / "index", "--kind", "ivf", "--nlist", "2").out.startswith(
        "nothing to do"
    )
    found = json.loads(clipmill("index", dataset, "-o", tmp_path / "flat", "--json").out)
    assert found["card"]["kind"] == "flat" and not found["done_before"]


def test_what_is_wrong_is_one_line(clipmill: Console, dataset: str) -> None:
    ran = clipmill("search", dataset, "a star", "--key", "b")
    assert (ran.code, ran.complaint()) == (
        2,
        "TEXT and --key to search for: give exactly one of TEXT, --image FILE, --key KEY and --place N",
    )
    ran = clipmill("search", dataset, "--key", "000000000", "--for", "sound")
    assert ran.code == 2 and "--for" in ran.complaint()
