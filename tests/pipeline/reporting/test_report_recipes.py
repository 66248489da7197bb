"""What each recipe would keep, by a report, is what `clipmill filter` with it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from browser import browser
from clipmill.pipeline import FilterJob, ReportJob, filter, report
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.job.filter import Recipe
from clipmill.pipeline.reporting import recipes
from clipmill.pipeline.reporting.recipes import RecipeNumbers
from clipmill.pipeline.running.stages import Stage
from fakes import Ran
from filter_kit import many
from made import make_dataset
from selenium.webdriver.common.by import By

CAPTIONS = ("a dog on the beach", "ein Hund am Strand", "dog", "two of the dogs", "x y", None, "")


def rows() -> list[dict[str, Any]]:
    """Those of `many`, with captions and sides that the recipes tell apart."""
    parts = many()
    for part in parts:
        count = len(part.get("caption", ()))
        part["caption"] = [CAPTIONS[row % len(CAPTIONS)] for row in range(count)]
        part["height"] = [100 + 7 * (row % 50) for row in range(count)]
    return parts


def check(found: RecipeNumbers, dataset: str, within: str | None = None, alias: str | None = None) -> None:
    """Against `filter` itself, reason by reason."""
    assert {counts.recipe for counts in found.counts} | found.lacking.keys() == set(get_args(Recipe))
    assert not found.is_sample
    for counts in found.counts:
        top = {"top_fraction": float(counts.options.split()[1])} if counts.options else {}
        job = FilterJob(dataset, count=True, recipe=counts.recipe, within=within, alias=alias, **top)  # type: ignore[arg-type]
        funnel = filter(job).funnel
        assert (counts.rows, counts.dropped, counts.kept) == (funnel.rows, funnel.dropped, funnel.kept), counts.recipe


def test_they_are_what_filter_keeps(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", rows(), models=[("", "ViT-B-32")])
    told: list[Stage] = []
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html")), told.append).recipes
    assert [stage.done for stage in told if stage.name == "counting"] == [0, 6]
    assert [counts.recipe for counts in found.counts] == ["no_filter", "basic", "clip_score", "laion2b"]
    assert all(0 < counts.kept < counts.rows for counts in found.counts)
    assert found.lacking == {
        "text_based": "needs --vocabulary",
        "image_based": "needs --reference",
        "image_based_intersect_clip_score": "needs --reference",
    }
    check(found, dataset.url)
    page = (tmp_path / "r.html").read_text()
    assert "What each recipe would keep" in page and "text_based needs --vocabulary" in page


def test_they_are_what_filter_keeps_of_what_was_embedded(ran: Ran, tmp_path: Path) -> None:
    subset = str(tmp_path / "subset")
    filter(FilterJob(str(ran.out), subset, where=("row % 3 > 0",)))
    for within in (None, subset):
        found = report(ReportJob(str(ran.out), str(tmp_path / "r.html"), within=within)).recipes
        check(found, str(ran.out), within)
        assert found.lacking["laion2b"] == "is for ViT-B/32"


def test_of_several_models_the_chosen_one_is_ranked_by(tmp_path: Path) -> None:
    part = {"b32_similarity": [0.3, 0.2, 0.1, None], "l14_similarity": [0.1, 0.1, 0.1, 0.4], "caption": ["a dog"] * 4}
    dataset = make_dataset(tmp_path / "in", [part], models=[("b32", "ViT-B/32"), ("l14", "ViT-L/14")])
    for alias, kept in ((None, 1), ("l14", 4)):
        found = report(ReportJob(dataset.url, str(tmp_path / "r.html"), alias=alias)).recipes
        check(found, dataset.url, alias=alias)
        assert next(counts.kept for counts in found.counts if counts.recipe == "clip_score") == kept


def test_what_no_row_has_is_said(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", [{"width": [300], "height": [300]}], embeds="images")
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html"))).recipes
    assert found.lacking["clip_score"] == "needs a similarity, which no row has"
    check(found, dataset.url)
    empty = report(ReportJob(make_dataset(tmp_path / "empty", [{}]).url, str(tmp_path / "r.html")))
    assert "What each recipe" not in (tmp_path / "r.html").read_text()
    assert all((counts.rows, counts.kept) == (0, 0) for counts in empty.recipes.counts)


def test_of_many_rows_a_sample_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(make_dataset(tmp_path / "in", rows()).url)
    whole = report(ReportJob(dataset.url, str(tmp_path / "r.html"))).recipes
    monkeypatch.setattr(recipes, "MOST", 100)
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html"))).recipes
    assert found.is_sample and not whole.is_sample
    for counts, exact in zip(found.counts, whole.counts, strict=True):
        assert 40 < counts.rows < 200 and sum(counts.dropped.values()) + counts.kept == counts.rows
        assert counts.kept / counts.rows == pytest.approx(exact.kept / exact.rows, abs=0.2)
    assert f"of {exact.rows:,} rows, chosen at random" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_every_recipe_whole(width: int, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "in", rows(), models=[("", "ViT-B-32")])
    found = report(ReportJob(dataset.url, str(tmp_path / "r.html"))).recipes
    with browser(tmp_path / "profile") as driver:
        metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get((tmp_path / "r.html").as_uri())
        shown = driver.find_elements(By.CSS_SELECTOR, ".noted tr:has(th)")
        for counts, row in zip(found.counts, shown, strict=True):
            assert row.find_element(By.TAG_NAME, "th").text.startswith(counts.recipe)
            texts = [cell.text for cell in row.find_elements(By.CSS_SELECTOR, ".number")]
            assert texts == [f"{counts.kept:,}", f"{counts.kept / counts.rows:.1%}"]
            assert row.rect["x"] >= 0 and row.rect["x"] + row.rect["width"] <= width
        foot = driver.find_element(By.XPATH, "//p[starts-with(., 'Not counted')]")
        assert all(name in foot.text for name in found.lacking)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
