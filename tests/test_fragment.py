"""What notebooks show: sequences in colours, and below each line what reached the upper levels."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from chunker.views.fragment import MOST, fragment, glyphs_of


class Shown(HTMLParser):
    """lines: the text of the innermost divisions. tags: that occur."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "div":
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        self.lines[-1] += data


def test_a_line_and_what_reached_the_levels():
    html = fragment("abcd", [0, 5, 0, 1], [0, 2, 1, 0], title="four & more")
    lines = Shown(html).lines[1:]
    assert lines[0] == "four & more"
    assert lines[1].startswith("bits:")
    assert [line.rstrip() for line in lines[2:]] == ["abcd", " bc", " b"]


def test_nothing_in_it_is_markup():
    hostile = b"<script>alert(1)</script>\x1b[31m\xff\n"
    shown = Shown(fragment(glyphs_of(hostile), [3] * len(hostile), [0] * len(hostile), title="<img>"))
    assert shown.tags == {"div", "span"}
    assert shown.lines[-1] == "<script>alert(1)</script>ESC[31m<FF>\u21b5"


def test_long_sequences_are_wrapped_and_cut():
    lines = Shown(fragment("x" * (MOST + 7), [0] * (MOST + 7), [0] * (MOST + 7), title="")).lines
    assert max(map(len, lines[3:-1])) <= 100
    assert sum(map(len, lines[3:-1])) == MOST
    assert lines[-1] == "and 7 more"
    assert Shown(fragment([], [], [], title="none")).lines[1] == "none"


def test_a_stacks_surprise_shows_itself():
    torch = pytest.importorskip("torch")
    from chunker.config import GateRule, StackConfig
    from chunker.learning import Stack

    torch.manual_seed(0)
    stack = Stack(StackConfig(levels=(6, 5), gate=GateRule("surprise", 8.0)))
    surprise = stack.surprise("what?\nwhat!")
    assert bytes(surprise.symbols.tolist()) == b"what?\nwhat!"
    lines = Shown(surprise._repr_html_()).lines[1:]
    received = "".join(c if r else " " for c, r in zip("what?↵what!", surprise.received[1], strict=True))
    assert [lines[2], lines[4]] == ["what?↵", "what!"]
    assert (lines[3][:6], lines[5][:5]) == (received[:6], received[6:])
    assert "0 symbols" in stack.surprise(b"")._repr_html_()
    numbers = Stack(StackConfig(levels=(6,), symbols=7)).surprise([1, 2, 6])
    assert Shown(numbers._repr_html_()).lines[3] == "1 2 6 "


@pytest.mark.parametrize("kind", ["text", "vectors"])
def test_a_classifiers_events_show_themselves(kind):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from chunker.classification import HistoryClassifier, RecurrentHead

    classifier = HistoryClassifier((8, 8), heads=[RecurrentHead(steps=5)], steps=20, random_state=0)
    words = ["abababab", "acacacac"] * 8
    cases: Any = words if kind == "text" else np.random.default_rng(0).normal(size=(16, 30, 2))
    classifier.fit(cases, [0, 1] * 8)
    events = classifier.events("abxé" if kind == "text" else cases[0])
    assert len(events.levels) == len(classifier.stack_.levels)
    assert events.reach[events.top].tolist() == [len(events.levels) - 1] * len(events.top)
    assert len(events.top) == round(
        classifier.event_share(["abxé"] if kind == "text" else cases[:1]) * len(events.reach)
    )
    lines = Shown(events._repr_html_()).lines[1:]
    assert f"{len(events.top)} of {len(events.reach)}" in lines[0]
    if kind == "text":
        assert lines[2] == "abx<C3><A9>"
