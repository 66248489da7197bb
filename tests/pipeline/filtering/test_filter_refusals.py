"""What a filter refuses, in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import filter
from clipmill.pipeline.errors import InputError, PlanMismatchError, UserError
from filter_kit import NAN


def test_other_conditions_into_the_same_folder_are_refused(make: Any) -> None:
    job = replace(make(), where=["row > 3"])
    filter(job)
    with pytest.raises(PlanMismatchError, match=r"where is \['row > 4'\], not \['row > 3'\]"):
        filter(replace(job, where=["row > 4"]))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"where": ["similarty > 0"]}, r'--where similarty > 0: Binder Error: Referenced column "similarty" not found'),
        ({"where": ["row > 'x'"]}, "--where row > 'x': .*"),
        ({"where": ["row >"]}, '--where row >: Parser Error: syntax error at or near ">"'),
        ({"where": [""]}, "--where : Parser Error"),
        ({"where": ["row > 1) OR (true"]}, "Parser Error: syntax error"),
        ({"where": ["true); DROP VIEW pairs; SELECT (true"]}, "Parser Error|must be one condition"),
        ({"where": ["true; SELECT 1"]}, "Parser Error|must be one condition"),
        ({"where": ["row_number() OVER (ORDER BY row) = 1"]}, "Binder Error: WHERE clause cannot contain window"),
        ({"where": ["count(*) > 3"]}, r"--where count\(\*\) > 3: Binder Error"),
        ({"where": ["row > 1"], "by": "score", "top_fraction": 0.5}, "--by score: no such column; there are key, "),
        ({"by": "caption", "top_fraction": 0.5}, "--by caption: the column holds string; name one that holds numbers"),
        ({"columns": ["colour"]}, "--column colour: no such column"),
        ({"top_fraction": 0.0}, "--top-fraction 0: must be a share"),
        ({"top_fraction": 30.0}, "--top-fraction 30: must be a share"),
        ({"threshold": NAN}, "--threshold nan: must be a finite number"),
        ({"alias": "b32"}, "no model is called 'b32'"),
        ({"labels": "nowhere"}, "nowhere does not hold labels"),
        ({"within": "nowhere"}, "nowhere is not a subset"),
        ({"reference": "nowhere"}, "--reference is for --recipe image_based"),
        ({"vocabulary": "nowhere"}, "--vocabulary is for --recipe text_based"),
        ({"recipe": "text_based"}, "--recipe text_based needs --vocabulary"),
        ({"recipe": "clip_score"}, "--recipe clip_score needs --top-fraction or --threshold"),
        ({"recipe": "image_based_intersect_clip_score", "reference": "x"}, "needs --top-fraction or --threshold"),
        ({"recipe": "laion2b"}, r"has a threshold for ViT-B/32, but .* was made with tiny"),
        ({"recipe": "basic", "language_detector": "cld3"}, "--language-detector cld3: must be rough"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_written(
    changes: Any, complaint: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = replace(make(), **changes)
    with pytest.raises(UserError, match=complaint) as raised:
        filter(job)
    assert "\n" not in str(raised.value)
    assert not Path(job.out).exists()


def test_a_condition_that_fails_on_some_row_is_one_line_too(make: Any) -> None:
    job = replace(make([{"caption": ["1", "2"]}, {"caption": ["3", "x"]}]), where=["caption::INTEGER > 0"])
    with pytest.raises(UserError, match=r"a condition fails: Conversion Error: .*'x'"):
        filter(job)


def test_a_subset_or_labels_of_another_dataset_are_refused(make: Any, tmp_path: Path) -> None:
    job = make()
    filter(job)
    other = replace(make(name="other", embeds="images"), out=str(tmp_path / "more"))
    with pytest.raises(InputError, match=r"a subset of .*dataset, not of .*other"):
        filter(replace(other, within=job.out))
