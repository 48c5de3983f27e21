"""A text on a terminal, its characters coloured by their bits, or with the bits as digits below each line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.style import Style

    from chunker.views.bins import Palette
    from chunker.views.characters import Characters

GUTTER = 8  # columns before the text: the line's number and two spaces
LIGHT_BACKGROUNDS = ("7", "15")  # of COLORFGBG


def has_colours(when: str) -> bool:
    """Whether to colour standard output. when: "auto", "always" or "never".

    auto: on a terminal that has colours, unless NO_COLOR is set.
    """
    if when != "auto":
        return when == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


def print_coloured(
    characters: Characters, values: list[float], *, compared: bool, levels: bool, told: str
) -> None:
    """Print a text in colours, between a legend and a line of totals.

    values: (n,) the bits that each character's colour shows. compared: they are differences of two models.
    levels: below each line what reached the recurrent levels.
    """
    from rich.console import Console
    from rich.text import Text

    from chunker.views import bins

    console = Console(
        force_terminal=True,
        color_system="truecolor" if os.environ.get("COLORTERM") in ("truecolor", "24bit") else "256",
        highlight=False,
        markup=False,
        emoji=False,
        no_color=False,
    )
    edges = bins.DIFFERENCE_EDGES_BITS if compared else bins.EDGES_BITS
    styles = _styles(_palette(), compared)
    legend = Text("more bits under the other model: " if compared else "bits a character: ")
    for style, label in zip(styles, bins.labels(edges), strict=True):
        legend.append(f" {label} ", style)
    console.print(legend, soft_wrap=True)
    bin_of = bins.difference_bin_of if compared else bins.bin_of
    for number, line, rows in _lines(characters, values, bin_of, levels):
        text = Text(f"{number:>{GUTTER - 2}}  ")
        for glyphs, level in line:
            text.append(glyphs, styles[level])
        console.print(text, soft_wrap=True)
        for row in rows:
            console.print(Text(" " * GUTTER + row, "dim"), soft_wrap=True)
    console.print(told, soft_wrap=True)


def print_digits(
    characters: Characters, values: list[float], echo: Callable[[str], None], *, levels: bool, told: str
) -> None:
    """Print a text without colours: below each line the whole bits of each character, nothing below 1.

    A difference of two models stands there as the digit of its size; + from 10. levels: as above.
    """
    echo("below each character its bits: nothing below 1, + from 10")
    for number, line, rows in _lines(characters, values, _digit, levels):
        text = "".join(glyphs for glyphs, _ in line)
        digits = "".join(_mark(level) * _columns(glyphs) for glyphs, level in line)
        echo(f"{number:>{GUTTER - 2}}  {text}".rstrip())
        for row in (digits, *rows):
            if row.strip():
                echo(" " * GUTTER + row.rstrip())
    echo(told)


def _digit(bits: float) -> int:
    return min(int(abs(bits)), 10)


def _mark(level: int) -> str:
    return " " if level == 0 else "+" if level > 9 else str(level)


def _columns(glyphs: str) -> int:
    from chunker.views.characters import cells

    return sum(map(cells, glyphs))


def _lines(
    characters: Characters, values: list[float], bin_of: Callable[[float], int], levels: bool
) -> Iterator[tuple[int, list[tuple[str, int]], list[str]]]:
    """Number and content of each line: runs of glyphs in one bin, and with `levels` for each recurrent level
    a row of what reached it. The end of a line is a space in its bin."""
    from chunker.views.characters import TAB, units

    shown: dict[str, tuple[str, int]] = {}  # glyphs and columns
    top = characters.levels if levels else 0
    for line in units(characters, "line"):
        runs: list[tuple[str, int]] = []
        rows = [""] * top
        column = 0
        for at in range(line.begin, line.end):
            character = characters.text[at]
            if character == "\t":
                glyphs, width = " " * (TAB - column % TAB), TAB - column % TAB
            else:
                if character not in shown:
                    shown[character] = _shown(character)
                glyphs, width = shown[character]
            column += width
            level = bin_of(values[at])
            if runs and runs[-1][1] == level:
                runs[-1] = (runs[-1][0] + glyphs, level)
            else:
                runs.append((glyphs, level))
            for row in range(top):
                rows[row] += glyphs if characters.reach[at] > row else " " * width
        yield line.line, runs, [row.rstrip() for row in rows]


def _shown(character: str) -> tuple[str, int]:
    """Glyphs and columns of what is no tab."""
    from chunker.views.characters import cells, name_of, needs_name

    if character == "\n":
        return " ", 1
    if needs_name(character):
        name = name_of(character)
        return name, len(name)
    return character, cells(character)


def _palette() -> Palette:
    from chunker.views.bins import DARK, LIGHT

    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT if background in LIGHT_BACKGROUNDS else DARK


def _styles(palette: Palette, compared: bool) -> list[Style]:
    """A style for each bin; where nothing is to be seen the terminal's own."""
    from rich.style import Style

    colours = palette.difference if compared else palette.surprise
    plain = 2 if compared else 0
    return [
        Style() if k == plain else Style(color=colour.text, bgcolor=colour.background)
        for k, colour in enumerate(colours)
    ]
