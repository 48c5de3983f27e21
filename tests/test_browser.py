"""The page of `chunker surprise --html` in a real browser: Chromium, driven by selenium.

pytest -m browser           skipped where either is missing
CHUNKER_SCREENSHOTS=FOLDER pytest -m browser          leaves pictures to look at
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_support
import pytest
from test_page import HOSTILE
from test_surprise_command import ODD

from chunker.cli.surprise import surprise

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A browser without a window, of 1000 by 800 pixels."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium, or no chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,800"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


class Page:
    """A page that is open."""

    def __init__(self, driver: Any, path: Path) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver = driver
        driver.get(path.as_uri())
        WebDriverWait(driver, 30).until(
            lambda d: d.execute_script("return document.documentElement.dataset.ready")
        )

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def press(self, key: str) -> None:
        self.find("#view").send_keys(key)

    def frame(self) -> None:
        """Wait until what was asked for is drawn."""
        script = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        self.driver.execute_async_script(script)

    def shoot(self, name: str) -> None:
        if folder := os.environ.get("CHUNKER_SCREENSHOTS"):
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture
def opened(driver: Any, tmp_path: Path) -> Any:
    """Makes the page of a text and opens it."""

    def opened(text: bytes, *options: str) -> Page:
        (tmp_path / "text").write_bytes(text)
        cli_support.call(surprise, str(tmp_path / "text"), "--html", str(tmp_path / "out.html"), *options)
        return Page(driver, tmp_path / "out.html")

    return opened


def long_log() -> bytes:
    draw = random.Random(0)
    parts = [b"%d: connection from node %d\n" % (1000 + k, draw.randrange(10**6)) for k in range(200)]
    parts += [b"the same line again and again\n"] * 1500 + [b"kernel panic: not syncing\n"]
    return b"".join(parts)


def test_nothing_goes_wrong_and_nothing_is_fetched(opened):
    page = opened(HOSTILE + ODD, "--no-model")
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    shown = page.run("return [...document.querySelectorAll('.c')].map(each => each.textContent).join('')")
    assert "</script><script>alert(1)</script>" in shown
    assert "ESC[31mred" in shown
    assert "<FF>" in shown
    assert "\x1b" not in shown
    page.shoot("odd")


def test_figures_appear_where_one_points(opened, tiny_model):
    from selenium.webdriver.common.action_chains import ActionChains

    page = opened(b"Return the value of the argument.\n" * 3, "-m", str(tiny_model.path))
    letter = page.driver.find_elements("css selector", ".c")[7]
    ActionChains(page.driver).move_to_element(letter).perform()
    assert "character t" in page.find("#panel").text
    assert "line 1, column 8" in page.find("#panel").text
    assert "level 1 alone" in page.find("#panel").text
    page.shoot("model")


def test_keys_jump_to_what_is_dear(opened):
    page = opened(long_log(), "--no-model")
    page.press("n")
    first = page.find("#told").text
    page.press("n")
    assert page.find("#told").text != first
    assert len(page.driver.find_elements("css selector", ".at")) == 1
    page.press("p")
    assert page.find("#told").text == first


def test_folds_open(opened):
    page = opened(long_log(), "--no-model")
    page.run("const view = document.getElementById('view'); view.scrollTop = view.scrollHeight")
    page.frame()
    fold = page.driver.find_elements("css selector", ".fold")[-1]
    assert "expected characters" in fold.text
    height = page.run("return document.getElementById('space').offsetHeight")
    page.shoot("folded")
    fold.click()
    page.frame()
    assert page.run("return document.getElementById('space').offsetHeight") > height
    page.find("#folding").click()
    page.frame()
    assert page.driver.find_elements("css selector", ".fold") == []


def test_the_strip_scrolls(opened):
    from selenium.webdriver.common.action_chains import ActionChains

    page = opened(long_log(), "--no-model")
    strip = page.find("#strip")
    ActionChains(page.driver).move_to_element_with_offset(
        strip, 0, strip.size["height"] // 2 - 4
    ).click().perform()
    page.frame()
    assert page.run("return document.getElementById('view').scrollTop") > 0
    assert "kernel panic" in page.find("#lines").text


def test_the_whole_text_can_be_scrolled_through(opened):
    page = opened(long_log(), "--no-model")
    page.find("#folding").click()
    seen = set()
    for _ in range(400):
        page.frame()
        seen.update(page.run("return [...document.querySelectorAll('.number')].map(e => e.textContent)"))
        script = (
            "const view = arguments[0], y = view.scrollTop; view.scrollTop += 400; return view.scrollTop > y"
        )
        if not page.run(script, page.find("#view")):
            break
    assert {int(number) for number in seen} == set(range(1, 1702))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(opened, scheme):
    from chunker.views.bins import DARK, LIGHT

    page = opened(long_log(), "--no-model")
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.frame()
    expected = (DARK if scheme == "dark" else LIGHT).surprise[5].background
    script = "return getComputedStyle(document.documentElement).getPropertyValue('--b5')"
    assert page.run(script).strip() == expected
    page.shoot(scheme)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
