"""Samples: texts of common kinds that both sides have, and that a block may read before its own content.

Level 0 begins empty, and learns a language's words and a format's habits from the content alone. A sample of
its kind tells it these before the first byte (histories that are primed, as the dictionaries of brotli and
zstd prime theirs). Samples are part of the archive format: FORMAT.md lists them, and none ever changes.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from chunker.core import backend as core
from chunker.core.backend import Settings
from chunker.errors import ExactnessError

CHECKSUMS = {
    "english-prose": "0e2ba5dc63a1f1027299e849ccae784d",
    "english-docs": "43d1d67017d01009aeba69f7d149755f",
    "german": "bb68483fb273c1865aa31d45f05e758a",
    "french": "137be7bac13b122e75591df44b762723",
    "spanish": "278b43ab986942139e85e1ba8e3d2ec6",
    "italian": "45b27b109199a39f1a030683c29ba52f",
    "portuguese": "591e0ed6668e573dd3f5f050a0047290",
    "russian": "769225c9cd08c141826859489013d6f0",
    "japanese": "ee1cde294a75dd1ce2ce34bb4e330027",
    "chinese": "cd0c532b15a97361786e84e7c1eee52a",
    "c": "99a604d0344c4177962c8f8ca4b3bf0c",
    "python": "653bfbb5e61ef66df9a860397ce8d099",
    "go": "34534aa5286a726df31cddb466f191b9",
    "java": "13dbf91e4118f23eaa3338b6b9546b2f",
    "rust": "69660c840f1d63b557a4c8039974929a",
    "javascript": "fa5110c592c1f6ee0cd66e5ded82f6d5",
    "html": "98577e5c81b426198475f9571a2181ef",
    "json": "c87eedf9658238bd44db90b26dffddee",
    "config": "0809765d5e56ce40ce1e0b17db87e60a",
    "log": "b21bd11e81f6b8f5f688a6510a75deda",
    "dutch": "3a1d939776f0a17add2a8306f33039af",
    "polish": "6779b321b390b2b608426dc483ec456d",
    "turkish": "e647978729112d78ef3ee7033aae9cd2",
    "ukrainian": "d761651092cfac88a6e37e2f69800be0",
    "korean": "d1d4dcf4660e21239b6e56cf803dc0c4",
    "arabic": "dda2978d77ee2eee62e05468ac8357fa",
}
"""Of the samples 1, 2, .., BLAKE2b of 16 bytes; 0 means none."""
NAMES = tuple(CHECKSUMS)

LEAST_BYTES = 64  # of a content that is worth a look
PROBE_BYTES = 6
PROBES, MORE_PROBES = 64, 256
WORTHWHILE = 8  # one in so many probes has to be found


@cache
def text(number: int | None) -> bytes:
    """The sample of that number; empty for 0 and None.

    Raises
    ------
    ExactnessError: it is not there, or not as it has to be; archives would then open nowhere else.
    """
    if not number:
        return b""
    path = Path(__file__).parent / "samples" / f"{NAMES[number - 1]}.txt"
    try:
        found = path.read_bytes()
    except OSError as error:
        raise ExactnessError(f"{path} cannot be read ({error.strerror}): install chunker again") from error
    if hashlib.blake2b(found, digest_size=16).hexdigest() != CHECKSUMS[NAMES[number - 1]]:
        raise ExactnessError(f"{path} was changed: install chunker again")
    return found


def name(number: int | None) -> str | None:
    """Of a sample; None for 0 and None."""
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
