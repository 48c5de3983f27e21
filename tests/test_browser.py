"""The page of `chunker surprise --html` in a real browser: Chromium, driven by selenium.

pytest -m browser           skipped where either is missing
CHUNKER_SCREENSHOTS=FOLDER pytest -m browser          leaves pictures to look at
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_support
import pytest
from browser_support import CHROMIUM, DRIVER, Page, browser
from page_support import figures_of
from test_page import HOSTILE
from test_surprise_command import ODD

from chunker.cli.surprise import surprise

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A browser, if there is one."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium, or no chromedriver")
    pytest.importorskip("selenium")
    with browser() as found:
        yield found


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
    rank, best = (
        figures_of(page.path.read_bytes()).ranks[7],
        page.driver.find_elements("css selector", "#guesses li"),
    )
    assert f"rank {rank}" in page.find("#panel").text
    assert len(best) == 5
    assert all("%" in each.text or "1 in" in each.text for each in best)
    assert all("level" in each.text or "contexts" in each.text for each in best)
    page.shoot("model")


def test_a_tap_tells_the_same(opened, tiny_model):
    page = opened(b"Return the value of the argument.\n" * 3, "-m", str(tiny_model.path))
    page.run("document.querySelectorAll('.c')[7].scrollIntoView()")
    box = page.run(
        "const b = document.querySelectorAll('.c')[7].getBoundingClientRect(); return [b.x + 3, b.y + 3]"
    )
    touch = {"touchPoints": [{"x": box[0], "y": box[1]}]}
    page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", **touch})
    page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.frame()
    assert "line 1, column 8" in page.find("#panel").text
    assert len(page.driver.find_elements("css selector", ".at")) == 1


@pytest.mark.parametrize("width", [360, 1000, 1900])
def test_nothing_moves_while_one_points(opened, tiny_model, width):
    """Whatever is told of a character, the text stays where it is; nothing is wider than the window."""
    page = opened(("Return Größe of the argument. " * 12 + "\n").encode() * 2, "-m", str(tiny_model.path))
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False},
    )
    page.frame()
    heights = set()
    for at in range(0, 60, 4):
        point = "dispatchEvent(new Event('pointerover', {bubbles: true}))"
        page.run(f"document.querySelectorAll('.c')[arguments[0]].{point}", at)
        page.frame()
        heights.add(page.run("return document.getElementById('view').clientHeight"))
    assert len(heights) == 1
    assert heights.pop() > 200
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    page.shoot(f"width-{width}")
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_assistive_technology_is_told(opened, tiny_model):
    """Names and roles as Chromium computes them; a move of the cursor is announced."""
    page = opened(b"Kept by quiz and vow: few bright oxen jump.\n" * 3, "-m", str(tiny_model.path))
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = {
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]
    }
    expected = {
        ("application", "the text"),
        ("button", "next"),
        ("button", "previous"),
        ("checkbox", "rows of the levels"),
        ("spinbutton", "jump from bits"),
        ("searchbox", "find in the text"),
        ("list", "colours"),
        ("list", "the likeliest in its place"),
        ("search", ""),
        ("main", ""),
        ("complementary", ""),
    }
    assert expected <= {(role, " ".join(name.split())) for role, name in found}
    assert not [name for role, name in found if role in ("button", "checkbox", "searchbox") and not name]
    assert not [role for role, _ in found if role.lower() == "canvas"], (
        "the strip is for the eye; keys do the same"
    )
    page.press("\ue014")  # arrow right
    told = page.find("#told").get_attribute("textContent")
    assert "character e U+0065" in told
    assert "guesses: " in told
    assert page.run("return document.activeElement.id") == "view"
    assert page.run("return document.getElementById('told').getAttribute('role')") == "status"


def test_lines_that_end_with_carriage_returns(opened):
    page = opened(b"first line\rsecond line\rthird", "--no-model")
    numbers = [each.text for each in page.driver.find_elements("css selector", ".number")]
    assert numbers == ["1", "2", "3"]
    assert "first line^M" in page.find("#lines").text


def test_two_models_side_by_side(opened, tiny_model):
    page = opened(b"Return the value of the argument.\n" * 3, "-m", str(tiny_model.path), "--against", "none")
    assert "contexts alone needs more than tiny" in page.find("#of").text
    page.press("n")
    assert "difference" in page.find("#panel").text
    page.shoot("compared")


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
