"""`clipmill serve` in a real browser: what people do, and what hostile data must not do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page
from clipmill.jobs.web.site import Site
from clipmill.pipeline import SearchJob, ServeJob, search
from clipmill.pipeline.searching.catalogue import Condition
from console import EXECUTABLE
from selenium.webdriver.common.keys import Keys

EVIL_KEY = "evil'\"&<b>"


@pytest.fixture(scope="module")
def url(scenes: ServeJob) -> Iterator[str]:
    """The command as people start it, and stop it."""
    command = [str(EXECUTABLE), "serve", scenes.dataset, "--labels", str(scenes.labels), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stderr is not None
        line = server.stdout.readline()
        assert line.startswith(f"121 rows of {scenes.dataset} at http://127.0.0.1:"), line + server.stderr.read()
        yield line.split()[-1]
        server.terminate()
        assert server.wait(30) is not None
        assert "Traceback" not in server.stderr.read()


def look_for(page: Page, words: str) -> None:
    page.one("#words").clear()
    page.one("#words").send_keys(words + Keys.ENTER)
    page.until(lambda: page.run("return location.hash") != "")
    page.settled()


def test_a_query_shows_the_right_pictures(page: Page, scenes: ServeJob, site: Site) -> None:
    """Of one thing, as it was drawn: `pairs.label` is the truth."""
    thing = site.rows.page(Condition("pairs.label IS NOT NULL AND error IS NULL"), 0, 1)[0]["label"]
    look_for(page, f"a {thing}")
    hits = search(SearchJob(scenes.dataset, f"a {thing}", k=48)).hits
    page.until(lambda: page.places() == [hit.place for hit in hits])
    page.until(lambda: page.loaded(".card:nth-child(-n+4) img"))
    assert hits[0].row["label"] == thing
    assert page.text("#status") == "1–48 of 109 rows, best first"
    assert page.run("return document.querySelector('.card img').src").endswith(f"/api/image/{hits[0].place}?side=320")


def test_pages_turn_and_the_browser_goes_back(page: Page) -> None:
    look_for(page, "a fish")
    first = page.places()
    page.one("nav .next").click()
    page.until(lambda: page.text("#status").startswith("49–96 of 109"))
    assert not set(first) & set(page.places())
    page.driver.back()
    page.until(lambda: page.places() == first)
    assert page.one("nav .previous").get_attribute("disabled")


def test_an_uploaded_image_finds_itself(page: Page, site: Site, tmp_path: Path) -> None:
    (row,) = site.rows.read([48])
    (tmp_path / "query.jpg").write_bytes(site.pictures.jpeg(row, 1000))
    page.one("#file").send_keys(str(tmp_path / "query.jpg"))
    page.until(lambda: page.places()[:1] == [48])
    assert page.one("#like").is_displayed() and "Like this image" in page.text("#like")
    page.one("#like button").click()
    page.until(lambda: page.places()[:2] == [0, 1])


def test_a_row_opens_and_leads_to_its_like(page: Page, site: Site) -> None:
    look_for(page, "a blue fish")
    place = page.places()[2]
    page.all(".card button")[2].click()
    (row,) = site.rows.read([place])
    assert page.text("#detail-title") == row["key"] and page.text("#caption") == row["caption"]
    assert row["sha256"] in page.text("#detail table")
    page.until(lambda: page.loaded("#detail img"))
    page.one("#more").click()
    page.until(lambda: page.places()[:1] == [place] and page.one("#like").is_displayed())


def test_the_slider_shows_what_falls_either_side(page: Page, site: Site) -> None:
    page.one("#slider").send_keys(Keys.HOME)
    page.until(lambda: page.text("#below").startswith("0"))
    page.run("const s = arguments[0]; s.value = 0.55; s.dispatchEvent(new Event('input'))", page.one("#slider"))
    sides = site.rows.sides(0.55, Condition(), 8)
    page.until(lambda: page.text("#above").startswith(f"{sides.above}") and "0.5500" in page.text("#command"))
    assert page.text("#below").startswith(f"{sides.below}")
    assert page.text("#command") == f"clipmill filter {site.dataset.url} --where 'similarity >= 0.5500' -o subset/"
    page.until(lambda: page.loaded("#just-below img") and page.loaded("#just-above img"))
    assert len(page.all("#just-above button")) == len(sides.just_above)
    page.until(lambda: page.all(".card.low"))
    page.one("#only").click()
    page.until(lambda: f"of {sides.above} rows" in page.text("#status"))
    assert not page.all(".card.low")


def test_filters_and_labels_narrow_what_is_shown(page: Page, site: Site) -> None:
    page.one("#where").send_keys("width > 120" + Keys.ENTER)
    page.until(lambda: f"of {site.rows.count(Condition('width > 120'))} rows" in page.text("#status"))
    page.run("const s = arguments[0]; s.value = 'red star'; s.dispatchEvent(new Event('change'))", page.one("#label"))
    page.until(lambda: f"of {site.rows.count(Condition('width > 120', 'red star'))} rows" in page.text("#status"))
    assert {chip.text for chip in page.all(".chip.label")} == {"red star"}
    assert "--labels" in page.until(lambda: "labels.label" in page.text("#command") and page.text("#command"))


def test_a_wrong_filter_is_told_of_beside_it(page: Page) -> None:
    page.one("#where").send_keys("<b>nonsense</b>" + Keys.ENTER)
    page.until(lambda: page.one("#error").is_displayed())
    assert page.text("#error").startswith("filter: ") and not page.all("#error b") and not page.all(".card")


# --- hostile data ----------------------------------------------------------------------------------------------------


def test_a_hostile_caption_key_and_file_name_are_only_text(page: Page, hostile: str, site: Site) -> None:
    page.run("const s = arguments[0]; s.value = 'key'; s.dispatchEvent(new Event('change'))", page.one("#by"))
    look_for(page, EVIL_KEY)
    (place,) = site.rows.of_key(EVIL_KEY)
    page.until(lambda: page.places()[:1] == [place])
    assert page.text(".card .words") == hostile
    assert not page.all(".card script") and page.run("return document.querySelectorAll('.card .words *').length") == 0
    page.one(".card button").click()
    assert (page.text("#detail-title"), page.text("#caption")) == (EVIL_KEY, hostile)
    assert "evil <i>.tar" in page.text("#detail table") and not page.all("#detail table i")
    assert "javascript:alert(1)" in page.text("#detail table") and not page.all("#detail a")


def test_a_hostile_query_does_nothing_bad(page: Page, hostile: str) -> None:
    look_for(page, hostile)
    assert len(page.places()) == 48
    assert page.one("#words").get_attribute("value") == hostile


def test_a_hostile_address_does_nothing_bad(tab: Page, hostile: str) -> None:
    for name in ("text", "key", "place", "upload", "side", "where", "label", "at", "start"):
        tab.open(tab.run("return new URLSearchParams([[arguments[0], arguments[1]]]).toString()", name, hostile))
        assert tab.driver.title == "clipmill" and not tab.all("#like script, #error script, main script")
    assert tab.complaints() == []


def test_a_file_that_is_no_image_is_told_of(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    path.write_text("<svg onload=alert(1)>")
    page.one("#file").send_keys(str(path))
    page.until(lambda: page.one("#error").is_displayed())
    assert page.text("#error") == "this file cannot be used: SVG is not supported"


def test_nobody_else_is_asked(page: Page, url: str) -> None:
    look_for(page, "a star")
    page.until(lambda: page.loaded(".card:nth-child(-n+4) img"))
    asked = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert asked and all(each.startswith(url) for each in asked)


# --- on every screen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "columns"), [(360, 2), (390, 2), (800, 3), (1400, 4), (2200, 5)])
def test_nothing_is_cut_off_however_wide_the_screen(tab: Page, width: int, columns: int, tmp_path: Path) -> None:
    tab.size(width, 900)
    tab.open("text=a+red+star")
    tab.until(lambda: tab.loaded(".card:nth-child(-n+4) img"))
    assert tab.run("return document.documentElement.scrollWidth") <= width
    lefts = tab.run("return [...document.querySelectorAll('.card')].map(c => c.getBoundingClientRect().left)")
    assert len(set(lefts)) >= columns
    is_open = tab.run("return document.querySelector('#threshold details').open")
    assert is_open == (width > 900)
    tab.one(".card button").click()
    box = tab.run(
        "const b = document.querySelector('#detail').getBoundingClientRect(); return [b.left, b.right, b.bottom]"
    )
    assert box[0] >= 0 and box[1] <= width and box[2] <= 900
    assert tab.driver.save_screenshot(str(tmp_path / f"{width}.png"))
