"""A real browser for pages: Debian's Chromium without a window, driven by selenium."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@contextlib.contextmanager
def browser(*, traced: bool = False) -> Iterator[Any]:
    """Chromium with a window of 1000 by 800 pixels; both programs must be there, and selenium.

    traced: for `tasks`.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,800"):
        options.add_argument(option)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", **({"performance": "ALL"} if traced else {})}
    )
    if traced:
        told = {"traceCategories": "toplevel,blink.user_timing", "enableNetwork": False, "enablePage": False}
        options.add_experimental_option("perfLoggingPrefs", told)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@dataclass(frozen=True)
class Task:
    """Of the thread that runs a page's script, in milliseconds: how long it took, and its processor time,
    which other programs on the machine hardly change."""

    wall: float
    processor: float


def tasks(driver: Any) -> tuple[list[Task], list[Task]]:
    """Those before and those after the page was ready, of a traced browser that opened one page; once."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    events = [event["params"] for event in events if event["method"] == "Tracing.dataCollected"]
    [ready] = [event for event in events if event["name"] == "ready" and "user_timing" in event["cat"]]
    thread = ready["pid"], ready["tid"]
    found: tuple[list[Task], list[Task]] = [], []
    for event in events:
        if (event["pid"], event["tid"]) == thread and event["ph"] == "X" and "RunTask" in event["name"]:
            after = event["ts"] > ready["ts"]
            found[after].append(Task(event.get("dur", 0) / 1000, event.get("tdur", 0) / 1000))
    return found


class Page:
    """A page that is open."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver, self.path = driver, path
        driver.get(path.as_uri())
        self.wait("return document.documentElement.dataset.ready")

    def wait(self, condition: str) -> None:
        """Wait until a script finds something, ten minutes at most."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 600).until(lambda driver: driver.execute_script(condition))

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
