"""Reads a page as a browser would: its elements, and the figures in it."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import accumulate
from typing import Any


class Elements(HTMLParser):
    """opened: (tag, attributes) of all elements. text: what stands in each script and style, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._inside: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))
        self._inside = tag
        self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.text[self._inside][-1] += data

    @property
    def policy(self) -> str:
        """The content security policy."""
        for tag, attributes in self.opened:
            if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy":
                return attributes["content"] or ""
        raise AssertionError("the page has no policy")


@dataclass(frozen=True)
class Figures:
    """What a page tells of its n characters; see chunker/views/page.py."""

    facts: dict[str, Any]
    data: bytes
    flags: bytes
    bits: list[float]
    other_bits: list[float] | None
    guesses: bytes | None
    confidences: bytes | None
    level_bits: list[list[float]]
    ranked: bytes
    ranks: list[int]
    guesses_of: list[list[tuple[int, float, int]]]


def figures_of(page: bytes) -> Figures:
    """The figures of a page."""
    facts_text, packed, _ = Elements(page.decode()).text["script"]
    facts = json.loads(facts_text)
    stream = zlib.decompress(base64.b64decode(packed, validate=True))
    n, at = facts["characters"], facts["bytes"]

    def take() -> bytes:
        nonlocal at
        at += n
        if at > len(stream):
            raise AssertionError("the stream is too short")
        return stream[at - n : at]

    def wide() -> list[float]:
        low, high = take(), take()
        return [(a | b << 8) / 100 for a, b in zip(low, high, strict=True)]

    found = Figures(
        facts,
        stream[: facts["bytes"]],
        take(),
        wide(),
        wide() if facts["compared"] else None,
        take() if facts["detail"] else None,
        take() if facts["detail"] else None,
        [wide() for _ in range(facts["levels"])],
        take() if facts["guesses"] else b"",
        [],
        [],
    )
    n = facts["ranked"]
    found.ranks.extend(rank + 1 for rank in take())
    columns = [[*zip(take(), take(), take(), strict=True)] for _ in range(facts["guesses"])]
    for guesses in zip(*columns, strict=True):
        sixteenths = accumulate(more for _, more, _ in guesses)
        found.guesses_of.append(
            [(b, s / 16, level) for (b, _, level), s in zip(guesses, sixteenths, strict=True)]
        )
    if at != len(stream):
        raise AssertionError("the stream is too long")
    return found


def links(page: str) -> list[str]:
    """Whatever would make a browser ask for something."""
    return re.findall(r"https?:|url\(|@import|\bsrc=|\bhref=|fetch\(|XMLHttpRequest|WebSocket|import\(", page)
