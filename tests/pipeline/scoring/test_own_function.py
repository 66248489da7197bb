"""Scores by functions of one's own: of embeddings, of pixels, and of what is wrong with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel.weights import Loaded
from clipmill.pipeline import ForgetJob, ScoreJob, forget, score
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import PlanMismatchError, UserError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.scoring import inputs
from clipmill.pipeline.scoring.part import ScoreCounts
from fakes import Drawn, Ran
from score_kit import rows, stored


def test_a_function_of_ones_own_gives_columns(job: ScoreJob, own: Any) -> None:
    code = (
        "import numpy as np\ndef score(x):\n    return {'first': x[:, 0], 'big': x[:, 0] > 0, 'n': np.arange(len(x))}"
    )
    job = replace(job, functions=[own("three_columns", code)])
    assert score(job).columns == ("quality", "first", "big", "n")
    for row, vector in zip(rows(job), stored(job), strict=True):
        assert (row["first"], row["big"]) == ((None, None) if vector is None else (vector[0], vector[0] > 0))
    assert [row["n"] for row in rows(job)] == [0, 1, None, 2, 0, 1]


def test_an_array_alone_is_a_column_of_the_functions_name_and_nan_is_null(job: ScoreJob, own: Any) -> None:
    code = "import numpy as np\ndef score(x):\n    return np.where(np.arange(len(x)) == 0, np.nan, x[:, 1])"
    summary = score(replace(job, heads=[], functions=[own("one_array", code)]))
    assert summary.counts == ScoreCounts(rows=6, scored=5, undefined=2)
    assert [row["score"] is None for row in rows(job)] == [True, False, True, False, True, False]


LOOKS = (
    "def score(x):\n    assert x.dtype == 'uint8' and x.shape[1:] == (96, 96, 3)\n"
    "    return {'red': x[..., 0].astype(float).mean(axis=(1, 2)), 'most': x.max(axis=(1, 2, 3)).astype(int)}"
)


def test_a_function_of_pixels_gets_what_the_model_saw(
    ran: Ran, drawn: Drawn, sharp: Loaded, tmp_path: Path, own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(inputs, "_IMAGES", 16)
    shutil.copytree(ran.out, tmp_path / "out")
    (tmp_path / "gone.txt").write_text(_keys(tmp_path / "out")[0])
    forget(ForgetJob(str(tmp_path / "out"), keys=str(tmp_path / "gone.txt")))
    job = ScoreJob(str(tmp_path / "out"), str(tmp_path / "looks"), functions=[own("looks", LOOKS)], pixels=True)
    summary = score(job)
    assert summary.counts == ScoreCounts(rows=120, scored=107) and summary.columns == ("red", "most")
    preprocess = replace(sharp.preprocess, decoding="close")
    samples = [sample for shard in drawn.shards for sample in read_samples(shard)]
    for row, sample in zip(rows(job), samples, strict=True):
        if row["error"] is not None:
            assert (row["red"], row["most"]) == (None, None)
            continue
        pixels = preprocess(sample.image)
        assert row["key"] == sample.key and row["most"] == pixels.max()
        assert row["red"] == pytest.approx(pixels[..., 0].mean(), rel=1e-6)
    monkeypatch.setattr("clipmill.pipeline.scoring.inputs.unchanged_shard", lambda *_: pytest.fail("a shard is read"))
    assert score(job).parts_done_before == 3
    with pytest.raises(PlanMismatchError, match="side is 'image', not 'pixels'"):
        score(replace(job, pixels=False, functions=[own("embeddings", "def score(x):\n    return x[:, 0]")]))


def _keys(out: Path) -> list[str]:
    embedded = pc.field("error").is_null()
    keys: list[str] = pq.read_table(out / "data", columns=["key", "error"]).filter(embedded)["key"].to_pylist()
    return keys


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("def score(x):\n    return x.nothing", r"broken:score fails: AttributeError: .*\(broken.py, line 2\)"),
        ("import nothing_of_the_kind", "importing it fails: No module named"),
        ("1 / 0", r"importing it fails: ZeroDivisionError: division by zero \(broken.py, line 1\)"),
        ("", "broken has no function score"),
        ("def score(x):\n    return x[0]", r"score has shape \[4\] for 2 rows; give one value for each"),
        ("def score(x):\n    return {}", "gave no column"),
        ("def score(x):\n    return {'row': x[:, 0]}", "row is a column that every table of scores has"),
        ("def score(x):\n    return {'a b': x[:, 0]}", "'a b' cannot be a column"),
        ("def score(x):\n    return x[:, 0].astype(complex)", "score holds complex"),
        ("def score(x):\n    return {'quality': x[:, 0]}", "two columns are called quality"),
        (
            "def score(x):\n    return {'b' if len(x) == 3 else 'a': x[:, 0]}",
            "gave columns b float, and before a float; give the same each time",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_one_line(code: str, complaint: str, job: ScoreJob, own: Any) -> None:
    with pytest.raises(UserError, match=complaint) as raised:
        score(replace(job, functions=[own("broken", code)]))
    assert "\n" not in str(raised.value)


def test_a_function_that_changes_is_another_one(job: ScoreJob, own: Any) -> None:
    job = replace(job, heads=[], functions=[own("changing", "def score(x):\n    return x[:, 0]")])
    score(job)
    path = Path("changing.py")
    path.write_text(path.read_text() + "\n# another\n")
    with pytest.raises(PlanMismatchError, match="changing:score is 'changing:score of sha256"):
        score(job)


def test_pixels_of_another_librarys_model_are_refused(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = {"library": "transformers", "variant": "hf:AlignModel", "config": {"embed_dim": 8}}
    monkeypatch.setattr(Dataset, "model_cards", lambda _: card)
    with pytest.raises(UserError, match="is of hf:AlignModel, whose images transformers makes ready"):
        score(ScoreJob(str(ran.out), str(tmp_path / "looks"), functions=["a:b"], pixels=True))
