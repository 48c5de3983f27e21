"""Lines planted into a log, to see whether they are found among its own."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Words = list[bytes]

STRANGE = (b"kernel panic: not syncing", b"segfault at 0 error 4", b"disk is read-only now", b"out of memory")
ODD_WORDS = (b"rejected", b"overheated", b"unauthorized", b"quarantine")
_WORD = re.compile(rb"[A-Za-z.:]{4,}")


def plant(data: bytes, count: int, seed: int = 0) -> tuple[bytes, set[int]]:
    """A log with `count` lines more, each made of one of its own in one of five ways,
    and their numbers from 1.

    The ways: a text that is not of the log, words in another order, another word, a line that breaks off, and
    two lines in one. They change what a line says; its numbers stay ordinary.
    """
    draw = random.Random(seed)
    lines = data.removesuffix(b"\n").split(b"\n")
    places = sorted(draw.sample(range(len(lines)), min(count, len(lines))))
    made = []
    for index, place in enumerate(places):
        words, other = lines[place].split(b" "), draw.choice(lines).split(b" ")
        made.append(b" ".join(WAYS[index % len(WAYS)](words, other, draw)))
    for place, line in zip(reversed(places), reversed(made), strict=True):
        lines.insert(place, line)
    return b"\n".join(lines) + b"\n", {place + index + 1 for index, place in enumerate(places)}


def _strange(words: Words, other: Words, draw: random.Random) -> Words:
    return [*words[: max(3, len(words) // 3)], draw.choice(STRANGE)]


def _shuffled(words: Words, other: Words, draw: random.Random) -> Words:
    rest = words[len(words) // 2 :]
    return [*words[: len(words) // 2], *rest[1:], *rest[:1]]


def _odd_word(words: Words, other: Words, draw: random.Random) -> Words:
    found = [index for index, word in enumerate(words) if _WORD.fullmatch(word)] or [len(words) - 1]
    words[draw.choice(found)] = draw.choice(ODD_WORDS)
    return words


def _broken_off(words: Words, other: Words, draw: random.Random) -> Words:
    return [*words[: len(words) // 2], b"FATAL"]


def _spliced(words: Words, other: Words, draw: random.Random) -> Words:
    return [*words[: 2 * len(words) // 3], *other[len(other) // 3 : 2 * len(other) // 3]]


WAYS: tuple[Callable[[Words, Words, random.Random], Words], ...] = (
    _strange,
    _shuffled,
    _odd_word,
    _broken_off,
    _spliced,
)
