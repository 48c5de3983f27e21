"""A page for a browser that shows a text coloured by surprise: one file, which asks for nothing else.

    page.html   the frame, with places <!-- LIKE THIS --> for what page.py puts in
    page.css    how it looks; the colours come from bins.py
    page.js     what it does: unpacks the figures and draws the lines that can be seen

The text and its figures lie in the page as one zlib stream in base64, so nothing in a text can end a script
or become markup; page.js puts it on the screen as text, never as HTML. A content security policy allows the
page its own script and style and nothing else. The stream is the bytes of the text, then columns, each of one
byte for each character:

    flags        bits 0-1: bytes of the character less 1; 2: it is a byte that is no UTF-8; 3-4: columns that
                 it takes, 3: shown by name; 5-7: its reach, at most 7
    bits         low bytes, then high bytes, of whole hundredths of a bit; the hundredths of the first n
                 characters sum to those of the true sum within 1/2
    other bits   likewise, where two models are compared
    guess, sure  the byte that the contexts expected, and how sure they were, 0 to 15
    level bits   for each recurrent level as `bits`, rounded one by one; 65535: it slept
    ranked       which of its bytes, 1 .. 4, is ranked: if it costs enough; 0: none

and columns of one byte for each character that is ranked:

    rank         less 1
    guesses      for each of the likeliest bytes: the byte, how many sixteenths of a bit more than the one
                 before it takes, at most 255, and the level it came from
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import accumulate, pairwise

from chunker.errors import UsageError
from chunker.views.bins import (
    DARK,
    DIFFERENCE_EDGES_BITS,
    EDGES_BITS,
    LIGHT,
    Palette,
    labels,
)
from chunker.views.characters import Characters, Ranks, cells, from_bits, needs_name, totals_by_kind

MOST_BYTES = 1 << 21  # of a text
HUNDREDTHS = 100
ASLEEP = 0xFFFF
_MOST = 0xFFFE  # hundredths of a bit that a column can hold
RANK_FROM_BITS = 2.0  # below, a byte has more than a quarter of the probability and is the third one at most
_RANKS_FROM_BITS = (RANK_FROM_BITS, 3.0, 4.0, 6.0, 8.0)  # the first with which a page is not too large
GUESS_BITS = 16  # parts of a bit in which those of a guess are told
MOST_TIMES = 10  # a page is at most so many times as large as its text, unless that is short
FRAME_BYTES = 40_000  # of a page without its text, at most


@dataclass(frozen=True)
class About:
    """What a page says of its text. models: the one that predicted, and the one that it is compared with, if
    any; None is contexts alone."""

    name: str
    models: tuple[str | None, ...] = (None,)


def page(characters: Characters, about: About) -> bytes:
    """The page, UTF-8.

    Raises
    ------
    UsageError: the text has more than MOST_BYTES bytes.
    """
    size = characters.starts[-1]
    if size > MOST_BYTES:
        raise UsageError(
            f"has {size:,} bytes, and a page takes {MOST_BYTES:,}; choose lines with --from and --to, "
            "or print rows with --by line"
        )
    compared = len(about.models) > 1
    for rank_from in _RANKS_FROM_BITS:
        shown = from_bits(characters, rank_from)
        data = base64.b64encode(zlib.compress(_columns(shown)))
        if len(data) <= max(MOST_TIMES * size - FRAME_BYTES, FRAME_BYTES):
            break
    facts = {
        "bytes": size,
        "characters": len(characters.text),
        "compared": compared,
        "levels": len(characters.level_bits),
        "reach": min(characters.levels, 7),
        "detail": bool(characters.confidences),
        "guesses": shown.ranks.width,
        "ranked": len(shown.ranks.ranks),
        "rankFrom": rank_from,
        "line": characters.line,
        "models": [name or "contexts alone" for name in about.models],
        "edges": DIFFERENCE_EDGES_BITS if compared else EDGES_BITS,
    }
    style, script = _part("page.css").replace("/* COLOURS */", _colours(compared)), _part("page.js")
    places = {
        "POLICY": f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'",
        "STYLE": style,
        "NAME": html.escape(about.name),
        "SUMMARY": html.escape(summary(characters, about)),
        "LEGEND": _legend(compared),
        "TOTALS": _totals(characters),
        "FACTS": json.dumps(facts).replace("<", "\\u003c"),
        "RANK_FROM": f"{rank_from:g}",
        "DATA": data.decode(),
        "SCRIPT": script,
    }
    head, *parts = _part("page.html").split("<!-- ")
    out = [head]
    for part in parts:
        place, rest = part.split(" -->", 1)
        out += [places[place], rest]
    return "".join(out).encode()


def summary(characters: Characters, about: About) -> str:
    """`1,234 bytes cost 2,345 bits, a payload of 294 bytes: 1.900 bits a character, model text`."""
    bits, count = math.fsum(characters.bits), len(characters.text)
    model, *others = (name or "contexts alone" for name in about.models)
    told = (
        f"{characters.starts[-1]:,} bytes cost {bits:,.0f} bits, a payload of {math.ceil(bits / 8):,} bytes: "
        f"{bits / count:.3f} bits a character, {model}"
    )
    for other in others:
        told += f"; {math.fsum(characters.other_bits) / count:.3f} bits a character, {other}"
    return told


def _part(name: str) -> str:
    return files("chunker.views").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Of a script or style, for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# ---- figures -------------------------------------------------------------------------------------------


def hundredths(bits: Iterable[float]) -> array[int]:
    """(n,) whole hundredths of a bit, rounded so that those of the first k sum to the true sum within 1/2.

    Rounded one by one, the bits of a text that was expected would all be 0.
    """
    sums = [round(HUNDREDTHS * total) for total in accumulate(bits, initial=0.0)]
    return array("H", [min(after - before, _MOST) for before, after in pairwise(sums)])


def _rounded(bits: Iterable[float]) -> array[int]:
    """(n,) hundredths, one by one; ASLEEP for NaN."""
    return array("H", [ASLEEP if math.isnan(b) else min(round(HUNDREDTHS * b), _MOST) for b in bits])


def _planes(values: array[int]) -> list[bytes]:
    """Low bytes, high bytes."""
    return [bytes(value & 255 for value in values), bytes(value >> 8 for value in values)]


def _columns(characters: Characters) -> bytes:
    parts = [characters.data, _flags(characters), *_planes(hundredths(characters.bits))]
    if characters.other_bits:
        parts += _planes(hundredths(characters.other_bits))
    if characters.confidences:
        parts += [characters.guesses, characters.confidences]
    for bits in characters.level_bits:
        parts += _planes(_rounded(bits))
    return b"".join([*parts, characters.ranked, *_guesses(characters.ranks)])


def _guesses(ranks: Ranks) -> list[bytes]:
    """The columns of characters that are ranked."""
    width = ranks.width
    parts = [bytes(rank - 1 for rank in ranks.ranks)]
    before = [0] * len(ranks.ranks)
    for k in range(width):
        bits = [round(GUESS_BITS * each) for each in ranks.best_bits[k::width]]
        more = bytes(min(each - less, 255) for each, less in zip(bits, before, strict=True))
        parts += [ranks.best[k::width], more, ranks.best_levels[k::width]]
        before = bits
    return parts


def _flags(characters: Characters) -> bytes:
    shapes = {}
    for character in set(characters.text):
        byte = "\udc80" <= character <= "\udcff"
        size = 1 if byte else len(character.encode())
        width = 3 if needs_name(character) else cells(character)
        shapes[character] = size - 1 | byte << 2 | width << 3
    if not characters.reach:
        return bytes(map(shapes.__getitem__, characters.text))
    reach = (min(level, 7) << 5 for level in characters.reach)
    return bytes(map(int.__or__, map(shapes.__getitem__, characters.text), reach))


# ---- what stands in the page without a script ----------------------------------------------------------


def _colours(compared: bool) -> str:
    """Custom properties of style: --b0, --t0, .. of the bins."""

    def of(palette: Palette) -> str:
        bins = palette.difference if compared else palette.surprise
        return "".join(f"--b{k}:{c.background};--t{k}:{c.text};" for k, c in enumerate(bins))

    count = len(LIGHT.difference if compared else LIGHT.surprise)
    classes = "".join(f".b{k}{{background:var(--b{k});color:var(--t{k})}}" for k in range(count))
    return f":root{{{of(LIGHT)}}}@media(prefers-color-scheme:dark){{:root{{{of(DARK)}}}}}{classes}"


def _legend(compared: bool) -> str:
    edges: Sequence[float] = DIFFERENCE_EDGES_BITS if compared else EDGES_BITS
    return "".join(f'<li class="b{k}">{label}</li>' for k, label in enumerate(labels(tuple(edges))))


def _totals(characters: Characters) -> str:
    rows = [*totals_by_kind(characters), *_totals_by_level(characters)]
    whole = math.fsum(characters.bits) or 1.0
    return "".join(
        f"<tr><th scope=row>{html.escape(name)}<td>{count:,}<td>{bits:,.0f}<td>{bits / whole:.1%}"
        f"<td>{bits / count:.3f}"
        for name, count, bits in rows
    )


def _totals_by_level(characters: Characters) -> list[tuple[str, int, float]]:
    found = []
    for level in sorted(set(characters.reach)):
        mine = [bits for reach, bits in zip(characters.reach, characters.bits, strict=True) if reach == level]
        name = "contexts alone" if not level else f"reached level {level}"
        found.append((name, len(mine), math.fsum(mine)))
    return found
