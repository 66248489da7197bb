"""A headless Chromium for tests of the web page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")

_SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


class Page:
    """A page in it. Waits where people would."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, fragment: str = "") -> None:
        """Afresh, and its first search done."""
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

    def until(self, what: Callable[[], T]) -> T:
        return WebDriverWait(self.driver, 20, 0.05).until(lambda _: what())

    def settled(self) -> None:
        """An answer, or a complaint, is shown."""
        self.until(
            lambda: self.run(
                "return !document.querySelector('#results').classList.contains('waiting') && "
                "(document.querySelector('#status').textContent !== '' || !document.querySelector('#error').hidden)"
            )
        )

    def places(self) -> list[int]:
        """Of the rows that are shown."""
        return [
            int(place) for place in self.run("return [...document.querySelectorAll('.card')].map(c => c.dataset.place)")
        ]

    def loaded(self, selector: str) -> bool:
        """Whether all of these images are drawn."""
        script = "return [...document.querySelectorAll(arguments[0])].every(i => i.complete && i.naturalWidth > 0)"
        return bool(self.run(script, selector))

    def complaints(self) -> list[str]:
        """What the browser itself found wrong: scripts that failed, what the page's policy forbids."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in said if "/api/" not in line]  # refused questions are answers, too


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for switch in (*_SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.unhandled_prompt_behavior = "ignore"
    if chromium := shutil.which("chromium"):
        options.binary_location = chromium
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
