"""What a report compares: pairs along their similarities, labels and sources with each other, two datasets."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser
from clipmill.pipeline import Report, ReportJob, report
from clipmill.pipeline.dataset.sql import connect
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.reporting.frame import TOP
from clipmill.pipeline.reporting.samples import Samples, spread
from clipmill.pipeline.reporting.shown_rows import ShownRows
from clipmill.pipeline.reporting.similarity import similarity_of
from embedded import embed_here
from fakes import Ran, jpeg, parts
from hypothesis import given
from hypothesis import strategies as st
from made import make_dataset
from report_kit import scheme_of, sum_up
from selenium.webdriver.common.by import By

RANDOM = np.random.default_rng(0)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=300), st.integers(2, 70))
def test_rows_are_spread_over_all_bins_and_all_rows(counts: list[int], most: int) -> None:
    chosen = spread(counts, most)
    assert chosen == sorted(set(chosen)) and len(chosen) <= most and set(chosen) <= set(range(len(counts)))
    if len(counts) <= most:
        assert chosen == list(range(len(counts)))
    else:
        assert chosen[0] == 0
        largest = int(np.argmax(counts))  # what holds most of the rows has one close by
        if counts[largest] > sum(counts) / 2 and most >= 8:
            assert largest in chosen


def test_whatever_the_threshold_there_are_pictures_on_either_side(tmp_path: Path) -> None:
    values = np.concatenate([RANDOM.normal(0.3, 0.02, 5000), RANDOM.uniform(-0.5, 0.2, 100)]).astype(np.float32)
    dataset = make_dataset(tmp_path / "in", [{"similarity": values}])
    with connect(dataset) as connection:
        sum_up(connection, scheme_of(dataset))
        similarity = similarity_of(connection, "")
        assert similarity is not None
        samples = Samples(connection, ShownRows.of(dataset))
        rows = samples.along(similarity)
        assert rows == samples.along(similarity)
    figures = [row.figure for row in rows]
    assert 32 <= len(rows) <= 64 and figures == sorted(figures)
    assert [values[row.row] for row in rows] == pytest.approx(figures)
    for share in np.linspace(0.05, 0.95, 19):  # neighbours in rank, where most rows are
        near = min(abs(figure - np.quantile(values, share)) for figure in figures if figure is not None)
        assert near < 0.01
    assert max(high - low for low, high in pairwise(figures)) < 0.1  # and in similarity, where few are


def test_the_axis_has_no_room_for_a_tail_and_still_counts_it(tmp_path: Path) -> None:
    values = np.concatenate([np.linspace(0.2, 0.4, 5000), [-0.9, 0.99]]).astype(np.float32)
    dataset = make_dataset(tmp_path / "in", [{"similarity": values}])
    with connect(dataset) as connection:
        sum_up(connection, scheme_of(dataset))
        similarity = similarity_of(connection, "")
    assert similarity is not None
    assert 0.19 < similarity.histogram.edges[0] < 0.21 and 0.39 < similarity.histogram.edges[-1] < 0.42
    assert sum(similarity.histogram.counts) == 5002
    assert (similarity.least, similarity.greatest) == (pytest.approx(-0.9), pytest.approx(0.99))


def made(folder: Path, **part: Any) -> str:
    return make_dataset(folder, [part]).url


def test_sources_are_the_domains_of_addresses(tmp_path: Path) -> None:
    urls = [
        "https://www.A.example/x",
        "http://a.example:80/y?z",
        "https://b.example",
        "data:x",
        None,
        "https://u@a.example/",
    ]
    values = [0.1, 0.2, 0.9, 0.5, 0.5, None]
    found = report(ReportJob(made(tmp_path / "in", url=urls, similarity=values), str(tmp_path / "r.html")))
    (by_source,) = found.grouped
    assert (by_source.by, by_source.count) == ("source", 2)
    named = [(group.name, group.rows, group.mean, group.kept) for group in by_source.groups]
    assert named == [("a.example", 2, pytest.approx(0.15), 0), ("b.example", 1, pytest.approx(0.9), 1)]
    page = (tmp_path / "r.html").read_text()
    assert "By source" in page and "a.example" in page


def test_without_addresses_there_are_no_sources(tmp_path: Path) -> None:
    found = report(ReportJob(made(tmp_path / "in", similarity=[0.1, 0.2]), str(tmp_path / "r.html")))
    assert found.grouped == () and found.against is None


def test_the_same_pairs_by_another_model_agree_as_numpy_says(tmp_path: Path) -> None:
    mine = RANDOM.normal(0.3, 0.1, 400).astype(np.float32)
    theirs = (mine + RANDOM.normal(0, 0.05, 400)).astype(np.float32)
    theirs[:10] = np.nan
    urls = [made(tmp_path / name, similarity=values) for name, values in (("a", mine), ("b", theirs))]
    found = report(ReportJob(urls[0], str(tmp_path / "r.html"), against=urls[1])).against
    assert found is not None and found.agreement is not None and found.url == urls[1]
    agreement = found.agreement
    assert agreement.rows == 390
    assert agreement.correlation == pytest.approx(np.corrcoef(mine[10:], theirs[10:])[0, 1], abs=1e-6)
    top = [
        values >= np.sort(values[np.isfinite(values)])[::-1][int(TOP * np.isfinite(values).sum())]
        for values in (mine, theirs)
    ]
    assert (agreement.both_top, agreement.either_top) == ((top[0] & top[1])[10:].sum(), (top[0] | top[1])[10:].sum())
    page = (tmp_path / "r.html").read_text()
    assert "390 pairs are in both" in page and f"correlate by {agreement.correlation:.3f}" in page


def test_datasets_of_other_pairs_are_compared_as_a_whole(ran: Ran, tmp_path: Path) -> None:
    other = made(tmp_path / "other", similarity=[0.25, 0.75])
    found = report(ReportJob(str(ran.out), str(tmp_path / "r.html"), against=other))
    assert found.against is not None and found.against.agreement is None
    page = (tmp_path / "r.html").read_text()
    assert "They have no pair in common" in page and "0.500" in page
    with pytest.raises(InputError, match="is not a clipmill dataset"):
        report(ReportJob(str(ran.out), str(tmp_path / "r.html"), against=str(tmp_path)))


@pytest.fixture(scope="module")
def labelled(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(ReportJob(str(ran.out), str(tmp_path_factory.mktemp("report") / "r.html")))


@pytest.mark.parametrize("width", [1200, 400])
def test_the_slider_picks_the_pictures_around_it(labelled: Report, ran: Ran, width: int, tmp_path: Path) -> None:
    values = sorted(row["similarity"] for row in parts(ran.out) if row["similarity"] is not None)
    with browser(tmp_path / "profile") as driver:
        metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(Path(labelled.out).as_uri())
        slider = driver.find_element(By.CSS_SELECTOR, ".slider input")
        for share in (0.2, 0.6):
            driver.execute_script(
                "const [slider, share] = arguments; slider.value = Math.round(slider.max * share);"
                "slider.dispatchEvent(new Event('input'))",
                slider,
                share,
            )
            shown = [
                [float(figure.get_attribute("data-figure") or "nan") for figure in side]
                for side in (
                    driver.find_elements(By.CSS_SELECTOR, f".around .{name} figure") for name in ("below", "above")
                )
            ]
            at = float(driver.find_element(By.CSS_SELECTOR, ".slider output").text.split()[1])
            assert max(shown[0]) < at + 0.0005 and min(shown[1]) >= at - 0.0005 and len(shown[0]) == len(shown[1]) == 6
            above = min(value for value in values if value >= at)
            assert min(shown[1]) == pytest.approx(above, abs=0.06)
        pictures = driver.find_elements(By.CSS_SELECTOR, ".around .above img")
        assert pictures and pictures[0].is_displayed()
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_pictures_of_a_folder_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.{'PNG' if number else 'jpg'}").write_bytes(jpeg(number))
        (folder / f"{number}.txt").write_text(f"number {number}")
    made = embed_here([folder], tmp_path / "out")
    found = report(ReportJob(made.url, str(tmp_path / "r.html")))
    assert (found.pictures, found.pictures_missing) == (3, 0)
