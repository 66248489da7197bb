"""The page in a real browser: orders, thresholds on matches, the map, selections, reasons, small screens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page
from clipmill.jobs.web import site as module
from clipmill.jobs.web.app import app_of
from clipmill.jobs.web.site import Site
from clipmill.jobs.web.view import Query, View
from served import served


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    with served(app_of(site)) as port:
        yield f"http://127.0.0.1:{port}/"


def choose(page: Page, selector: str, value: str) -> None:
    script = "const s = arguments[0]; s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    page.run(script, page.one(selector), value)


def press(page: Page, name: str, value: str) -> None:
    page.run("arguments[0].click()", page.one(f'input[name="{name}"][value="{value}"]'))


def test_rows_are_sorted_by_similarity_from_either_end(page: Page, site: Site) -> None:
    for order in ("similarity", "-similarity"):
        choose(page, "#order", order)
        expected = [hit["row"]["_place"] for hit in site.search(View(order=order), 0, 48)["hits"]]
        page.until(lambda expected=expected: page.places() == expected)
    assert page.text("#status") == "1–48 of 109 rows, lowest similarity first"


def test_a_threshold_on_the_match_is_chosen_by_looking(page: Page, site: Site) -> None:
    page.open("text=a+red+star")
    press(page, "score", "match")
    page.until(lambda: page.text("#score-name") == "Match" and "--threshold" in page.text("#command"))
    page.run("const s = arguments[0]; s.value = 0.2; s.dispatchEvent(new Event('input'))", page.one("#slider"))
    view = View(Query(text="a red star"), score="match", at_least=0.2)
    above = site.search(view, 0, 1)["total"]
    page.until(lambda: page.text("#above").startswith(str(above)) and "0.2000" in page.text("#command"))
    expected = f"clipmill search {site.dataset.url} 'a red star' --threshold 0.2000 -k {above}"
    assert page.text("#command") == expected and page.text("#command-name") == "Find these rows"
    page.until(lambda: len(page.all(".card.low")) == min(48, 109) - above)
    page.one("#only").click()
    page.until(lambda: f"of {above} rows" in page.text("#status") and not page.all(".card.low"))
    assert "at=0.2" in page.run("return location.hash")  # so that it can be kept and shared


def test_weak_matches_look_weak_and_an_empty_page_says_why(page: Page, site: Site) -> None:
    page.open("text=a+red+star")
    below = site.search(View(Query(text="a red star")), 0, 48)
    weak = [hit["score"] < below["weak_below"] for hit in below["hits"]]
    assert page.run("return [...document.querySelectorAll('.card')].map(c => c.classList.contains('weak'))") == weak
    assert True in weak and not page.one("#note").is_displayed()
    page.open("where=width+%3E+99999")
    page.until(lambda: page.one("#note").is_displayed())
    assert page.text("#note") == "No row meets the filter." and not page.all(".card")
    page.until(lambda: page.text("#without") == "No row is left to cut.")
    page.open("where=widht+%3E+3")
    assert page.text("#error").startswith("filter: no column is called widht; there are width, ")


def test_the_map_shows_a_row_where_it_is_pointed_at(page: Page, site: Site) -> None:
    press(page, "way", "map")
    page.until(lambda: page.text("#status") == "A map of 109 rows")
    assert page.one("#canvas").is_displayed() and not page.one("#results").is_displayed()
    assert {item.text for item in page.all("#legend li")} == {name for name, _ in site.rows.labels()}
    drawn = (
        "const c = arguments[0]; return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0)"
    )
    assert page.run(drawn, page.one("#canvas"))
    box = page.run("const b = document.querySelector('#canvas').getBoundingClientRect(); return [b.width, b.height]")
    point = (
        "const c = document.querySelector('#canvas'), b = c.getBoundingClientRect();"
        "const at = {clientX: b.left + arguments[1], clientY: b.top + arguments[2]};"
        "c.dispatchEvent(new PointerEvent(arguments[0], at))"
    )
    for x in range(4, int(box[0]), 8):  # until the pointer meets one
        if page.run(f"{point}; return !document.querySelector('#peek').hidden", "pointermove", x, box[1] / 2):
            break
    page.until(lambda: page.loaded("#peek img"))
    page.run(point, "click", x, box[1] / 2)
    page.until(lambda: page.text("#detail-title") != "")
    assert page.text("#detail-title") in {row["key"] for row in site.rows.read(range(121))}
    page.run("document.querySelector('#detail').close()")
    page.open("text=a+red+star&way=map")
    page.until(lambda: page.one("#colour").get_attribute("value") == "match")  # something is looked for
    choose(page, "#colour", "similarity")
    page.until(lambda: len(page.all("#legend li")) == 3)


def test_what_is_selected_is_downloaded(page: Page, site: Site) -> None:
    page.one(".menu summary").click()
    assert page.text("#take-what") == "All 121 rows that match"
    for number in (1, 3):
        page.run("arguments[0].click()", page.one(f".card:nth-child({number}) .tick input"))
    page.until(lambda: page.text("#take-what") == "2 selected rows")
    href = page.run("return document.querySelector('#take-links a').href")
    assert href.endswith("places=0%2C2") and "/api/download/keys?" in href
    content = page.run("return fetch(arguments[0]).then(answer => answer.text())", href)
    assert content.split() == [site.rows.read([place])[0]["key"] for place in (0, 2)]
    page.one(".menu summary").click()  # it closed when something else was clicked
    page.one("#clear").click()
    page.until(lambda: page.text("#take-what") == "All 121 rows that match")
    assert not page.all(".tick input:checked")


def test_a_download_promises_no_more_than_can_be_paged_through(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEEPEST", 50)
    page.open("text=a+red+star")
    assert page.text("#take-what") == "The best 50 matches"
    page.open("where=width+%3E+0")
    assert page.text("#take-what").startswith("All ")


def test_the_command_is_not_broken_at_a_hyphen(page: Page) -> None:
    page.open("text=a+red+star")
    page.until(lambda: "--where" in page.text("#command"))
    words = page.run("return [...document.querySelectorAll('#command span')].map(w => w.textContent)")
    lines = page.run("return [...document.querySelectorAll('#command span')].map(w => w.getClientRects().length)")
    assert " ".join(words) == page.text("#command") and lines[words.index("--where")] == 1


@pytest.mark.parametrize("width", [360, 400])
def test_a_small_screen_has_all_of_it(tab: Page, width: int, tmp_path: Path) -> None:
    tab.size(width, 900)
    tab.open("way=map")
    tab.until(lambda: tab.text("#status").startswith("A map of"))
    assert tab.run("return document.documentElement.scrollWidth") <= width
    by = tab.run("const b = document.querySelector('#by').getBoundingClientRect(); return [b.left, b.right, b.width]")
    words = tab.run("return document.querySelector('#words').getBoundingClientRect().width")
    assert by[0] >= 0 and by[2] >= 40 and words >= 110  # text or key can be chosen, and what is typed is seen
    page_buttons = tab.run("return [...document.querySelectorAll('.tools nav')].map(n => n.offsetWidth)")
    assert page_buttons == [0]  # those below the rows are enough
    for selector in ("#by", "#words", "#label", "#order", "#colour", ".menu summary", "#canvas"):
        assert tab.one(selector).is_displayed()
    assert tab.driver.save_screenshot(str(tmp_path / f"{width}.png"))
