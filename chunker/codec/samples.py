"""Samples: texts of common kinds that both sides have, and that a block may read before its own content.

Level 0 begins empty, and learns a language's words and a format's habits from the content alone. A sample of
its kind tells it these before the first byte (histories that are primed, as the dictionaries of brotli and
zstd prime theirs). Samples are part of the archive format: FORMAT.md lists them, and none ever changes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from chunker.core import backend as core
from chunker.core.backend import Settings

NAMES = (
    "english-prose",
    "english-docs",
    "german",
    "french",
    "spanish",
    "italian",
    "portuguese",
    "russian",
    "japanese",
    "chinese",
    "c",
    "python",
    "go",
    "java",
    "rust",
    "javascript",
    "html",
    "json",
    "config",
    "log",
    "dutch",
    "polish",
    "turkish",
    "ukrainian",
    "korean",
    "arabic",
)
"""Of the samples 1, 2, ..; 0 means none."""

LEAST_BYTES = 64  # of a content that is worth a look
PROBE_BYTES = 6
PROBES, MORE_PROBES = 64, 256
WORTHWHILE = 8  # one in so many probes has to be found


@cache
def text(number: int) -> bytes:
    """The sample of that number; empty for 0."""
    if number == 0:
        return b""
    return (Path(__file__).parent / "samples" / f"{NAMES[number - 1]}.txt").read_bytes()


def name(number: int) -> str | None:
    """Of a sample; None for 0."""
    return NAMES[number - 1] if number else None


def number_for(content: bytes, settings: Settings, most_bytes: int) -> int:
    """Of the sample that a block of these settings reads: theirs, or the one that suits it. The reference in
    Python would take a minute for one, and chooses none."""
    if settings.sample is not None:
        return settings.sample
    return 0 if core.backend().name == "python" else choose(content, most_bytes)


def choose(content: bytes, most_bytes: int) -> int:
    """The number of the sample that a content is most like: in which most of some short pieces of it occur.

    0 if none is like it, if the content is short, or if both do not fit into `most_bytes`. Samples that are
    nearly as good as the best one are looked at twice, with more pieces.
    """
    if len(content) < LEAST_BYTES:
        return 0
    fitting = [n for n in range(1, len(NAMES) + 1) if len(text(n)) + len(content) <= most_bytes]
    found = _likeness(content, fitting, PROBES)
    best = max(found.values(), default=0.0)
    if best * WORTHWHILE < 1:
        return 0
    close = [number for number, share in found.items() if share >= best * 3 / 4]
    found = _likeness(content, close, MORE_PROBES)
    return max(close, key=found.__getitem__)


def _likeness(content: bytes, numbers: list[int], probes: int) -> dict[int, float]:
    """For each of these samples, the share of pieces of a content, evenly spread, that occur in it."""
    places = len(content) - PROBE_BYTES + 1
    count = min(probes, places)
    starts = [k * places // count for k in range(count)]
    pieces = [content[at : at + PROBE_BYTES] for at in starts]
    return {number: sum(piece in text(number) for piece in pieces) / count for number in numbers}
