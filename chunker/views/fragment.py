"""A piece of HTML for notebooks: a sequence in colours, and below each line what reached the upper levels.

It has styles of its own and no script, so it looks the same wherever a notebook is shown. Its ground is
white, as the colours of `bins.LIGHT` ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from chunker.views.bins import EDGES_BITS, LIGHT, labels
from chunker.views.characters import name_of, needs_name

MOST = 20_000  # inputs that are shown
COLUMNS = 100

_BOX = (
    "background:#fff;color:#16181b;font:13px/18px ui-monospace,Menlo,Consolas,monospace;white-space:pre;"
    "overflow-x:auto;padding:6px"
)
_FAINT = "color:#696969"


def glyphs_of(data: bytes) -> list[str]:
    """(n,) a glyph for each byte: ASCII as it is, by name what is none or shows nothing."""
    shown = [bytes([byte]).decode("ascii", "surrogateescape") for byte in range(256)]
    names = ["\u21b5" if each == "\n" else name_of(each) if needs_name(each) else each for each in shown]
    return [names[byte] for byte in data]


def fragment(
    glyphs: Sequence[str],
    bins: Sequence[int],
    reach: Sequence[int],
    *,
    title: str,
    bits: bool = True,
    breaks: Sequence[bool] = (),
) -> str:
    """The HTML of n inputs.

    glyphs: what stands for each. bins: (n,) the bin of `bins.LIGHT` of each. reach: (n,) the highest level
    that received it, counted from 0. bits: whether the bins are those of bits, and need a legend. breaks:
    (n,) after which inputs a line ends; empty: where it is full.
    """
    shown = min(len(glyphs), MOST)
    parts = [f"<div>{escape(title)}</div>"]
    if bits:
        named = labels(EDGES_BITS)
        parts.append("<div>bits: " + "".join(_run(f" {each} ", k) for k, each in enumerate(named)) + "</div>")
    top = max(reach[:shown], default=0)
    begin, column = 0, 0
    for at in range(shown):
        column += len(glyphs[at])
        if column >= COLUMNS or at == shown - 1 or (breaks and breaks[at]):
            parts.append(_line(glyphs[begin : at + 1], bins[begin : at + 1], reach[begin : at + 1], top))
            begin, column = at + 1, 0
    if shown < len(glyphs):
        parts.append(f"<div style='{_FAINT}'>and {len(glyphs) - shown:,} more</div>")
    return f"<div style='{_BOX}'>{''.join(parts)}</div>"


def _line(glyphs: Sequence[str], bins: Sequence[int], reach: Sequence[int], top: int) -> str:
    runs = groupby(zip(glyphs, bins, strict=True), key=lambda pair: pair[1])
    text = "".join(_run("".join(glyph for glyph, _ in run), level) for level, run in runs)
    rows = [f"<div>{text}</div>"]
    for level in range(1, top + 1):
        received = (g if r >= level else " " * len(g) for g, r in zip(glyphs, reach, strict=True))
        rows.append(f"<div style='{_FAINT}'>{escape(''.join(received))} </div>")
    return "".join(rows)


def _run(text: str, level: int) -> str:
    if level == 0:
        return escape(text)
    colour = LIGHT.surprise[level]
    return f"<span style='background:{colour.background};color:{colour.text}'>{escape(text)}</span>"
