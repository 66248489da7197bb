"""The groups of duplicates that a report shows: those that `dedup` found, or those among a sample of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from browser import browser
from clipmill.pipeline import DedupJob, FilterJob, Report, ReportJob, dedup, filter, report
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.reporting import duplicates
from clipmill.pipeline.reporting.shown_rows import ShownRows
from embedded import embed_here
from fakes import jpeg, write_tar
from hypothesis import given
from hypothesis import strategies as st
from made import make_dataset, unit_vectors
from selenium.webdriver.common.by import By


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two tars: picture 0 is there ten times, 1 three times, 2 twice, and 3 to 9 once."""
    folder = tmp_path_factory.mktemp("copies")
    pictures = [0] * 10 + [1] * 3 + [2] * 2 + list(range(3, 10))
    members: list[tuple[str, bytes]] = []
    for number, picture in enumerate(pictures):
        members += [(f"{number:03d}.jpg", jpeg(picture)), (f"{number:03d}.txt", f"number {number}".encode())]
    tars = [folder / "a.tar", folder / "b.tar"]
    write_tar(tars[0], members[:24])
    write_tar(tars[1], members[24:])
    return embed_here(tars, folder / "out")


def sizes(found: Report) -> list[tuple[int, int]]:
    assert found.duplicates is not None
    return [(group.size, len(group.rows)) for group in found.duplicates.largest]


def test_a_small_dataset_is_compared_as_a_whole(copies: Dataset, tmp_path: Path) -> None:
    found = report(ReportJob(copies.url, str(tmp_path / "r.html")))
    assert sizes(found) == [(10, 8), (3, 3), (2, 2)]
    assert found.duplicates is not None and found.pictures_missing == 0
    assert (found.duplicates.compared, found.duplicates.groups, found.duplicates.rows) == (22, 3, 15)
    for group in found.duplicates.largest:
        assert group.rows[0].figure is None
        assert [row.figure for row in group.rows[1:]] == pytest.approx([1.0] * (len(group.rows) - 1))
    page = (tmp_path / "r.html").read_text()
    assert "3 groups of 15 rows with a cosine of 0.95 or more among 22 images, each compared with each." in page
    assert "10 alike" in page and "and 2 more" in page


def test_what_dedup_found_is_shown(copies: Dataset, tmp_path: Path) -> None:
    out = str(tmp_path / "unique")
    assert dedup(DedupJob(copies.url, out)).funnel.kept == 10
    job = ReportJob(copies.url, str(tmp_path / "r.html"))
    by_name = report(ReportJob(copies.url, job.out, duplicates=out))
    within = report(ReportJob(copies.url, job.out, within=out))  # what it left out is what one wants to see
    assert sizes(by_name) == sizes(within) == [(10, 8), (3, 3), (2, 2)]
    assert within.duplicates == by_name.duplicates and within.numbers.counts.rows == 10
    assert by_name.duplicates is not None
    assert (by_name.duplicates.source, by_name.duplicates.compared) == (out, None)
    kept = {(row["shard"], row["row"]) for part in Path(out).glob("data/*") for row in pq.read_table(part).to_pylist()}
    assert all(group.rows[0].place in kept for group in by_name.duplicates.largest)
    assert "The first of each is the one that stays." in (tmp_path / "r.html").read_text()


def test_only_the_sample_of_a_subset_is_compared(copies: Dataset, tmp_path: Path) -> None:
    subset = str(tmp_path / "subset")
    filter(FilterJob(copies.url, subset, where=("key >= '008'",)))
    found = report(ReportJob(copies.url, str(tmp_path / "r.html"), within=subset))
    assert sizes(found) == [(3, 3), (2, 2), (2, 2)]
    assert found.duplicates is not None and found.duplicates.compared == 14


def test_a_subset_that_is_not_dedups_is_refused(copies: Dataset, tmp_path: Path) -> None:
    subset = str(tmp_path / "subset")
    filter(FilterJob(copies.url, subset))
    with pytest.raises(
        InputError, match="has no groups of duplicates: name the folder given to `clipmill dedup --out`"
    ):
        report(ReportJob(copies.url, str(tmp_path / "r.html"), duplicates=subset))
    other = make_dataset(tmp_path / "other", [{"image_embedding": unit_vectors(0, 3)}])
    dedup(DedupJob(other.url, str(tmp_path / "unique")))
    with pytest.raises(InputError, match="not of"):
        report(ReportJob(copies.url, str(tmp_path / "r.html"), duplicates=str(tmp_path / "unique")))


def test_equal_captions_and_files_are_said_to_be_equal(copies: Dataset, tmp_path: Path) -> None:
    dedup(DedupJob(copies.url, str(tmp_path / "exact"), near=False))
    report(ReportJob(copies.url, str(tmp_path / "r.html"), duplicates=str(tmp_path / "exact")))
    assert "3 groups of 15 rows with the same bytes" in (tmp_path / "r.html").read_text()


def test_without_duplicates_or_images_there_are_none(tmp_path: Path) -> None:
    apart = make_dataset(tmp_path / "apart", [{"image_embedding": np.eye(4, dtype=np.float32), "width": [9] * 4}])
    found = report(ReportJob(apart.url, str(tmp_path / "r.html")))
    assert found.duplicates is not None and found.duplicates.largest == ()
    assert "None among 4 images, each compared with each." in (tmp_path / "r.html").read_text()
    texts = make_dataset(tmp_path / "texts", [{"text_embedding": unit_vectors(0, 3)}], embeds="texts")
    assert report(ReportJob(texts.url, str(tmp_path / "r.html"))).duplicates is None
    assert "Near duplicates" not in (tmp_path / "r.html").read_text()


def test_of_a_large_dataset_parts_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"image_embedding": unit_vectors(number, 50, 32)} for number in range(8)]
    dataset = make_dataset(tmp_path / "in", parts, dim=32)
    monkeypatch.setattr(duplicates, "SAMPLE", 100)
    monkeypatch.setattr(duplicates, "_A_PART", 20)
    read: list[str] = []
    monkeypatch.setattr(duplicates, "rows_within", lambda within, part: read.append(part))
    found = duplicates.among_some(ShownRows.of(dataset), None, None)
    assert found.compared == 100 and len(set(read)) == len(read) == 5
    assert found == duplicates.among_some(ShownRows.of(dataset), None, None)


def test_the_same_sample_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"image_embedding": np.repeat(unit_vectors(number, 25, 32), 2, axis=0)} for number in range(12)]
    monkeypatch.setattr(duplicates, "SAMPLE", 100)
    monkeypatch.setattr(duplicates, "_A_PART", 20)
    near, compared = duplicates._near, list[int]()
    monkeypatch.setattr(duplicates, "_near", lambda *given: compared.append(1) or near(*given))
    dataset, found = make_dataset(tmp_path / "in", parts[:8], dim=32), list[duplicates.Duplicates]()
    for grown in (8, 8, 9, 10, 11, 12):
        dataset = make_dataset(tmp_path / "in", parts[:grown], dim=32)
        found.append(duplicates.among_some(ShownRows.of(dataset), None, None))
        whole = make_dataset(tmp_path / f"whole-{grown}-{len(found)}", parts[:grown], dim=32)
        before = len(compared)
        assert found[-1] == duplicates.among_some(ShownRows.of(whole), None, None)
        del compared[before:]
    assert found[0].groups > 0 and found[0] == found[1]
    assert len(compared) < len(found) - 1  # a new part is seldom in the sample
    changed = dict(parts[0], image_embedding=unit_vectors(99, 50, 32))
    for number in range(12):  # one of these parts is in the sample
        dataset = make_dataset(tmp_path / "in", [*parts[:number], changed, *parts[number + 1 :]], dim=32)
        found.append(duplicates.among_some(ShownRows.of(dataset), None, None))
    assert any(one != found[5] for one in found[6:])


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 7))
def test_what_is_near_to_what_does_not_depend_on_the_tiles(directions: list[int], tile: int) -> None:
    vectors = np.eye(6, dtype=np.float32)[directions].reshape(-1, 6)
    before = duplicates._TILE
    duplicates._TILE = tile
    try:
        pairs = duplicates._near(vectors, 0.95)
    finally:
        duplicates._TILE = before
    first = duplicates.connect(np.arange(len(vectors)), pairs)
    assert first.tolist() == [directions.index(direction) for direction in directions]


@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_the_groups(copies: Dataset, width: int, tmp_path: Path) -> None:
    report(ReportJob(copies.url, str(tmp_path / "r.html")))
    with browser(tmp_path / "profile") as driver:
        metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get((tmp_path / "r.html").as_uri())
        groups = driver.find_elements(By.CSS_SELECTOR, ".alike")
        assert [len(group.find_elements(By.CSS_SELECTOR, "img")) for group in groups] == [8, 3, 2]
        assert groups[0].find_element(By.TAG_NAME, "h3").text == "10 alike"
        driver.execute_script("arguments[0].scrollIntoView()", groups[0])
        assert all(image.is_displayed() for image in groups[0].find_elements(By.CSS_SELECTOR, "img"))
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
