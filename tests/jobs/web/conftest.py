"""What the browser's tests of the page share. The tests themselves say at which `url` it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the tests without a browser do without its driver
    from browser import Page


@pytest.fixture(scope="module")
def tab(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    from browser import Page, browser

    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield Page(driver, url)


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """Wide, with nothing looked for. Nothing may have gone wrong in it in the end."""
    tab.size(1400, 900)
    tab.open()
    yield tab
    assert tab.driver.title == "clipmill"
    assert tab.complaints() == []
