"""A text as characters with the bits that each cost, and as words, lines and fields.

    bytes --decode--> characters --partition--> units: every character is in exactly one

A byte that belongs to no character of UTF-8 is a character by itself. Lines end with LF, CRLF or CR.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TypeVar

from chunker.errors import CorpusError, UsageError

Number = TypeVar("Number", int, float)
UNITS = ("char", "word", "line", "field")
KINDS = ("letters", "digits", "spaces", "line ends", "punctuation", "others")
MOST_CONTROLS = 0.1  # share of the characters that may be controls or no UTF-8 in what passes for text
TAB = 8

_WORD = re.compile(r"\w+|\r\n|.", re.DOTALL)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_DELIMITERS = "\t;|,"
_CONTROLS = re.compile("[\0-\x07\x0e-\x1a\x1c-\x1f\x7f\udc80-\udcff]")
_PRINTABLE = re.compile("[ -~]")
_KIND_OF_CATEGORY = {"L": "letters", "M": "letters", "N": "digits", "P": "punctuation", "S": "punctuation"}


@dataclass(frozen=True)
class Unit:
    """Characters begin .. end - 1. line, column: of the first, counted from 1. field: its number in the line,
    0 where the text was not cut into fields."""

    begin: int
    end: int
    line: int
    column: int
    field: int = 0


@dataclass(frozen=True)
class Characters:
    """n characters of a text of N bytes.

    text: n code points; a byte that is no UTF-8 is one of U+DC80 .. U+DCFF (Python's surrogateescape).
    starts: (n + 1,) where each begins in the bytes, and N. bits: (n,) what each cost.
    reach: (n,) 0: the contexts alone predicted it; 1: it woke level 1; 2: it then went up to level 2, ...
    other_bits: (n,) under another model, with which the first one is compared. guesses, confidences: (n,) the
    byte that the contexts expected, and how sure they were, 1 .. 15; 0: they expected none. level_bits: for
    each recurrent level l its (n,) bits under levels 1 .. l alone, NaN where they slept. ranked: (n,) 1 .. 4:
    of this byte of it rank and likeliest bytes are known; 0: of none. Each of these may be empty. ranks: of
    the m characters of which they are known, in order. line: the number of the first line.
    """

    text: str
    starts: array[int]
    bits: array[float]
    reach: bytes = b""
    other_bits: array[float] = field(default_factory=lambda: array("f"))
    guesses: bytes = b""
    confidences: bytes = b""
    level_bits: tuple[array[float], ...] = ()
    ranked: bytes = b""
    ranks: Ranks = field(default_factory=lambda: Ranks())
    line: int = 1

    @property
    def data(self) -> bytes:
        """The text as it came."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def levels(self) -> int:
        """The highest recurrent level that anything reached."""
        return max(self.reach, default=0)

    @property
    def differences(self) -> list[float]:
        """(n,) bits that the other model needs more than the first one."""
        return [other - own for own, other in zip(self.bits, self.other_bits, strict=True)]


@dataclass(frozen=True)
class Ranks:
    """Of m bytes. ranks: (m,). best, best_bits, best_levels: (m, k) the k likeliest bytes in their place,
    what these would have cost, and from which level they came, as in `chunker.core.backend.Trace`."""

    ranks: array[int] = field(default_factory=lambda: array("H"))
    best: bytes = b""
    best_bits: array[float] = field(default_factory=lambda: array("f"))
    best_levels: bytes = b""

    @property
    def width(self) -> int:
        """k, 0 where nothing is known."""
        return len(self.best) // len(self.ranks) if self.ranks else 0

    def of(self, chosen: Sequence[int]) -> Ranks:
        """Those of some of the bytes."""
        places = [self.width * at + k for at in chosen for k in range(self.width)]
        return Ranks(
            array("H", map(self.ranks.__getitem__, chosen)),
            bytes(map(self.best.__getitem__, places)),
            array("f", map(self.best_bits.__getitem__, places)),
            bytes(map(self.best_levels.__getitem__, places)),
        )


def decode(
    data: bytes,
    bits: Sequence[float],
    *,
    reach: bytes = b"",
    other_bits: Sequence[float] = (),
    guesses: Sequence[int] = (),
    confidences: bytes = b"",
    level_bits: Sequence[float] = (),
    ranks: Ranks | None = None,
    line: int = 1,
) -> Characters:
    """The characters of a text, from figures of its N bytes, each (N,) or empty, level_bits (N, levels).

    A character costs the bits of its bytes, and reaches what the highest of them reached; what the contexts
    expected is told of its first byte, ranks of its dearest one. guesses: 256 for none. ranks: 0 where
    unknown. `chunker.core.backend.Trace` explains the rest.
    """
    text = data.decode("utf-8", "surrogateescape")
    starts = array("I", [0, *accumulate(map(_size, text))])
    spans = None if len(text) == len(data) else [*pairwise(starts)]

    def joined(values: Sequence[Number], join: Callable[[Sequence[Number]], Number]) -> Sequence[Number]:
        if spans is None or not values:
            return values
        return [values[a] if b - a == 1 else join(values[a:b]) for a, b in spans]

    levels = len(level_bits) // len(data) if data else 0
    ranked, known = b"", Ranks()
    if ranks is not None:
        dearest = [max(range(a, b), key=bits.__getitem__) for a, b in pairwise(starts)]
        ranked = bytes(at - a + 1 if ranks.ranks[at] else 0 for at, a in zip(dearest, starts, strict=False))
        known = ranks.of([at for at in dearest if ranks.ranks[at]])
    return Characters(
        text,
        starts,
        array("f", joined(bits, sum)),
        bytes(joined(reach, max)),
        array("f", joined(other_bits, sum)),
        bytes(guess & 255 for guess in joined(guesses, _first)),
        bytes(joined(confidences, _first)),
        tuple(array("f", joined(level_bits[level::levels], sum)) for level in range(levels)),
        ranked,
        known,
        line,
    )


def from_bits(characters: Characters, least: float) -> Characters:
    """The same, with ranks only of characters that cost so many bits."""
    known = zip(characters.bits, characters.ranked, strict=False)
    ranked = bytes(part if bits >= least else 0 for bits, part in known)
    kept = [
        at
        for at, now in enumerate(part for part, old in zip(ranked, characters.ranked, strict=True) if old)
        if now
    ]
    return replace(characters, ranked=ranked, ranks=characters.ranks.of(kept))


def _first(values: Sequence[Number]) -> Number:
    return values[0]


def reached(levels: bytes) -> bytes:
    """Which level each byte reached, (N,), from the levels that were at work, (N,).

    A trace tells before which byte level 2 moved: it then took in the last one at which level 1 was awake.
    """
    reach, last = bytearray(levels), -1
    for at, level in enumerate(levels):
        reach[at] = level > 0
        if level:
            if level > 1 and last >= 0:
                reach[last] = level
            last = at
    return bytes(reach)


def _size(character: str) -> int:
    code = ord(character)
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:
        return 1
    return 2 if code < 0x800 else 3 if code < 0x10000 else 4


def check_text(data: bytes, *, binary: bool = False) -> None:
    """Raise CorpusError for nothing, and UsageError for what is no text, unless binary may be shown."""
    if not data:
        raise CorpusError("is empty; name a file with text in it")
    if binary:
        return
    text = data.decode("utf-8", "surrogateescape")
    share = len(_CONTROLS.findall(text)) / len(text)
    if share > MOST_CONTROLS:
        raise UsageError(f"looks binary ({share:.0%} of it is no text); show it all the same with -f")


# ---- characters ----------------------------------------------------------------------------------------


def needs_name(character: str) -> bool:
    """Whether it is shown by name, as by `less`: it moves the cursor, or shows nothing."""
    return not _PRINTABLE.match(character) and unicodedata.category(character) in _NAMED


_NAMED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def name_of(character: str) -> str:
    """^C for a control, ESC, <FF> for a byte that is no UTF-8, <U+202E> for the others."""
    code = ord(character)
    if code == 0x1B:
        return "ESC"
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    return f"<{code - 0xDC00:02X}>" if 0xDC80 <= code <= 0xDCFF else f"<U+{code:04X}>"


def cells(character: str) -> int:
    """How many columns of a terminal a character takes that is shown as it is: 0, 1 or 2."""
    if _PRINTABLE.match(character):
        return 1
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def kind_of(character: str) -> str:
    """One of KINDS."""
    if character in "\r\n":
        return "line ends"
    category = unicodedata.category(character)
    if character == "\t" or category == "Zs":
        return "spaces"
    return _KIND_OF_CATEGORY.get(category[0], "others")


def totals_by_kind(characters: Characters) -> list[tuple[str, int, float]]:
    """Kind, characters and bits of each kind that occurs."""
    kinds = {character: kind_of(character) for character in set(characters.text)}
    count = Counter[str]()
    bits = dict.fromkeys(KINDS, 0.0)
    for character, cost in zip(characters.text, characters.bits, strict=True):
        kind = kinds[character]
        count[kind] += 1
        bits[kind] += cost
    return [(kind, count[kind], bits[kind]) for kind in KINDS if count[kind]]


# ---- units ---------------------------------------------------------------------------------------------


def units(characters: Characters, by: str) -> list[Unit]:
    """The text cut into characters, words, lines or fields, in order.

    A word is a run of letters, digits and underscores; every other character stands by itself. A line has its
    end with it, and a field the delimiter behind it: a tab, semicolon, bar or comma, whichever half of the
    lines or more have most often, or else a space.
    """
    text, found = characters.text, []
    cut = None if by == "line" else _WORD if by == "word" else _field(text) if by == "field" else None
    for number, line in enumerate(_LINE.finditer(text), characters.line):
        begin, end = line.span()
        if by == "line":
            found.append(Unit(begin, end, number, 1))
        elif cut is None:
            found += [Unit(at, at + 1, number, at - begin + 1) for at in range(begin, end)]
        else:
            parts = enumerate(cut.finditer(text, begin, end), 1)
            found += [
                Unit(*part.span(), number, part.start() - begin + 1, count if by == "field" else 0)
                for count, part in parts
            ]
    return found


def _field(text: str) -> re.Pattern[str]:
    """What matches a field."""
    lines = [line[0] for line in _LINE.finditer(text)]
    having = {
        mark: sum(line.count(mark) for line in lines)
        for mark in _DELIMITERS
        if 2 * sum(mark in line for line in lines) >= len(lines)
    }
    mark = re.escape(max(having, key=having.__getitem__) if having else " ")
    return re.compile(f"[^{mark}]*{mark}|[^{mark}]+")


def mean_bits(values: Sequence[float], parts: Iterable[Unit]) -> list[float]:
    """(n,) of each character the mean bits of a character of its unit."""
    means: list[float] = []
    for part in parts:
        size = part.end - part.begin
        means += [sum(values[part.begin : part.end]) / size] * size
    return means
