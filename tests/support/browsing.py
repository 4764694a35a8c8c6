"""Debian's Chromium, driven through the pages of the service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from support.waiting import DEADLINE, until

_FLAGS = (
    "headless no-sandbox disable-quic no-first-run disable-background-networking disable-component-update "
    "disable-sync disable-dev-shm-usage hide-scrollbars window-size=1400,1000"
)
#: Without a GPU, and with one in software, which takes long, but draws the timeline of a run.
_PLAIN, _DRAWING = "disable-gpu disable-software-rasterizer", "use-angle=swiftshader enable-unsafe-swiftshader"
#: Views of a page that are the same when it has settled.
_STILL = 5


@contextmanager
def browser(*, draws: bool = False) -> Iterator[Browser]:
    """Chromium with a new profile, which ``draws`` timelines or not; skips the test where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver (Debian's packages chromium and chromium-driver) are not installed")
    with TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        for flag in (*_FLAGS.split(), *(_DRAWING if draws else _PLAIN).split(), f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as opened:
            opened.set_page_load_timeout(DEADLINE)
            yield Browser(opened)


class Browser:
    """Looks at pages as a person does: by the words on them."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def see(self, xpath: str) -> WebElement:
        """The first element that is to be seen, once there is one."""

        def visible(driver: webdriver.Chrome) -> WebElement | None:
            return next((one for one in driver.find_elements(By.XPATH, xpath) if one.is_displayed()), None)

        found: WebElement = WebDriverWait(self.driver, DEADLINE, ignored_exceptions=[Exception]).until(
            visible, f"never seen: {xpath}"
        )
        return found

    def text(self, words: str) -> WebElement:
        return self.see(f"//*[normalize-space(.)={words!r} and not(*[normalize-space(.)={words!r}])]")

    def field(self, name: str) -> WebElement:
        """The box below the label ``name`` of a form."""
        label = f"//*[normalize-space(text())={name!r}]"
        return self.see(f"{label}/ancestor::*[.//textarea or .//input][1]//*[self::textarea or self::input]")

    def fill(self, name: str, value: str) -> None:
        box = self.field(name)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(value)

    def click(self, words: str) -> None:
        """By script: a message that slides over the page would take a click of the mouse."""
        self.driver.execute_script("arguments[0].click()", self.text(words))

    def picture(self) -> tuple[str, int, int]:
        """Source and size in pixels of the picture of a page, once it is drawn."""

        def drawn(driver: webdriver.Chrome) -> tuple[str, int, int] | None:
            for image in driver.find_elements(By.TAG_NAME, "img"):
                size = (int(image.get_property("naturalWidth") or 0), int(image.get_property("naturalHeight") or 0))
                if all(size) and image.is_displayed():
                    return str(image.get_attribute("src")), *size
            return None

        found: tuple[str, int, int] = WebDriverWait(self.driver, DEADLINE, ignored_exceptions=[Exception]).until(drawn)
        return found

    def settled(self) -> None:
        """Return when the page no longer changes: it looks the same several times in a row."""
        views: list[bytes] = []

        def still() -> bool:
            views.append(self.driver.get_screenshot_as_png())
            return len(views) > _STILL and len(set(views[-_STILL:])) == 1

        until(still, what="a page that does not change")

    def hosts(self) -> set[str]:
        """Hosts, with their ports, that pages have asked since the last call."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                url = message["params"].get("url") or message["params"]["request"]["url"]
                if url.startswith(("http", "ws")):
                    found.add(urlsplit(url).netloc)
        return found

    def console(self) -> list[str]:
        """What Chromium has said of pages since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def keep(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))
