"""Bins of bits, and their colours: on paper, on a dark screen, and where two models are compared.

The colours of surprise differ in lightness, step by step from the background's, and go from yellow to brown:
who sees no red or no green, and who prints in grey, can tell them apart. Differences go from orange to blue.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

EDGES_BITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Bin k of surprise begins at EDGES_BITS[k - 1]: 1 bit is one chance in two, 8 bits one in 256."""

DIFFERENCE_EDGES_BITS = (-2.0, -0.5, 0.5, 2.0)
"""Likewise of differences; bin 2 is that of no difference."""


@dataclass(frozen=True)
class Colour:
    """Of the background and of the text on it, as #rrggbb."""

    background: str
    text: str


@dataclass(frozen=True)
class Palette:
    """A colour for each bin of surprise, and one for each bin of differences."""

    surprise: tuple[Colour, ...]
    difference: tuple[Colour, ...]


LIGHT = Palette(
    surprise=(
        Colour("#ffffff", "#16181b"),
        Colour("#fff2c2", "#16181b"),
        Colour("#ffd97a", "#16181b"),
        Colour("#f2a63b", "#16181b"),
        Colour("#d77422", "#000000"),
        Colour("#7d2b10", "#ffffff"),
    ),
    difference=(
        Colour("#d77422", "#000000"),
        Colour("#ffe0b3", "#16181b"),
        Colour("#ffffff", "#16181b"),
        Colour("#c4def5", "#16181b"),
        Colour("#2a66ad", "#ffffff"),
    ),
)
DARK = Palette(
    surprise=(
        Colour("#15171a", "#e6e4e0"),
        Colour("#352b11", "#f2efe9"),
        Colour("#5a4410", "#ffffff"),
        Colour("#8a5c10", "#ffffff"),
        Colour("#d08a2e", "#000000"),
        Colour("#ffdc94", "#000000"),
    ),
    difference=(
        Colour("#e08a35", "#000000"),
        Colour("#5b3a12", "#ffffff"),
        Colour("#15171a", "#e6e4e0"),
        Colour("#1d3f61", "#ffffff"),
        Colour("#6cb2f2", "#000000"),
    ),
)


def bin_of(bits: float) -> int:
    """The bin of a surprise."""
    return bisect_right(EDGES_BITS, bits)


def difference_bin_of(bits: float) -> int:
    """The bin of a difference: the bits of the other model less those of the first; below 2 the other one
    knows more, above 2 the first one."""
    return bisect_right(DIFFERENCE_EDGES_BITS, bits)


def labels(edges: tuple[float, ...]) -> list[str]:
    """What a legend says of each bin: "below 0.5", "0.5 to 1", .., "8 or more"."""
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} or more"]
