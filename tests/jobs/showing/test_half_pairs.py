"""Nobody overlooks rows that lack a side: a line says how many, why, and what to do."""

from __future__ import annotations

from collections import Counter

from clipmill.jobs.showing.half_pairs import warnings
from clipmill.pipeline.dataset.totals import Totals


def totals(**changes: Counter[str]) -> Totals:
    return Totals(1, 2000, 2000, **changes)


def test_whole_pairs_need_no_warning() -> None:
    assert list(warnings(totals())) == []


def test_a_line_a_side_says_how_many_why_and_what_to_do() -> None:
    half = Counter({"caption: no file": 1200, "caption: empty": 3, "image: not understood": 1})
    image, caption = warnings(totals(half_pairs=half))
    assert image.startswith("1 of 2,000 embedded rows have no image (1 not understood)")
    assert "--image-key" in image and "--no-images" in image
    assert caption.startswith("1,203 of 2,000 embedded rows have no caption (1,200 no file, 3 empty)")
    assert "--caption-key" in caption and "--no-texts" in caption


def test_files_that_are_apart_come_with_the_command_that_sorts_them() -> None:
    (line,) = warnings(totals(notes=Counter({"key came back": 3})))
    assert line.startswith("3 embedded rows have a key that came before") and "tar --sort=name" in line
