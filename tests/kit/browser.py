"""A headless Chromium for tests of the web page, driven as people would drive it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from chromium import SWITCHES, executable
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")


class Page:
    """A tab at the web page's address. Waits where people would."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, fragment: str = "") -> None:
        """Loads the page afresh and waits for its first search."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#{fragment}")
        self.settled()

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], T]) -> T:
        return WebDriverWait(self.driver, 20, 0.05).until(lambda _: condition())

    def settled(self) -> None:
        """Waits until an answer or an error is shown."""
        self.until(
            lambda: self.run(
                "return !document.querySelector('#results').classList.contains('waiting') && "
                "(document.querySelector('#status').textContent !== '' || !document.querySelector('#error').hidden)"
            )
        )

    def places(self) -> list[int]:
        """The dataset's row numbers of the cards that are shown, in their order."""
        script = "return [...document.querySelectorAll('.card')].map(c => c.dataset.place)"
        return [int(place) for place in self.run(script)]

    def loaded(self, selector: str) -> bool:
        """Whether all of these images are drawn."""
        script = "return [...document.querySelectorAll(arguments[0])].every(i => i.complete && i.naturalWidth > 0)"
        return bool(self.run(script, selector))

    def complaints(self) -> list[str]:
        """The browser's own errors: scripts that failed, loads that the page's policy forbids."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in messages if "/api/" not in message]  # a refused request is an answer, too


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.unhandled_prompt_behavior = "ignore"
    options.binary_location = executable()
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
