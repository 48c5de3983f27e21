"""Samples: texts of common kinds that both sides have, and that a block may read before its own content.

Level 0 begins empty, and learns a language's words and a format's habits from the content alone. A sample of
its kind tells it these before the first byte (histories that are primed, as the dictionaries of brotli and
zstd prime theirs): a list of common words, and a text behind it. Samples are part of the archive format:
FORMAT.md lists them, and none ever changes.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from chunker.core import backend as core
from chunker.core.backend import Settings
from chunker.errors import ExactnessError

CHECKSUMS = {
    "english-prose": "e6dd67d33c2d781b6896883c7c871a91",
    "english-docs": "961fba95da8b8e076b65134348e9ddf2",
    "german": "5fa3c9463c53c6fbaca74b4665e7408c",
    "french": "024d3e721c84e94b2d37eceae972fda2",
    "spanish": "373401b0107025495695437d8bc50b85",
    "italian": "050e718b7710479ce8e92ff9f944dfe3",
    "portuguese": "96175062548ac4af2c98857e6f1f622f",
    "russian": "b7de9d0f7f7b87a4368c54697826fc00",
    "japanese": "2950a08e001da7c5489a829ef97125b3",
    "chinese": "9580723674e293b30a0e1f43c722dcb7",
    "c": "cdacbc8712ad806ebc17796ed2f3a252",
    "python": "686e9432896f3f31fc91913cf7e678ac",
    "go": "1eae22cd6ce3e881ad129ffe592295a8",
    "java": "6542ce604c51454ca709a2b504abf20c",
    "rust": "7b47e24f744acfabd03bdc772d474207",
    "javascript": "943964f682228fec537b0c0194aea12b",
    "html": "75df0f4cbe34ff17291a1dff6dea89cd",
    "json": "566aef181b67a22f6c1f3d93ac2fbdf5",
    "config": "abb239c472a873c780d7f187595b3b4b",
    "log": "ea93cc6e87e70e18c28450be1aad0520",
    "dutch": "db6a8872956123f819794941d4569ef3",
    "polish": "748946e99338d748b2b8ea3716955a49",
    "turkish": "a3fe073410f63595b6e52217b684c9fc",
    "ukrainian": "4e534717ecf84db99c633af181d87970",
    "korean": "49812236b2581444e7fd8168d915a7fd",
    "arabic": "ff0eb623b84b58ad304a263be2d06d6f",
    "shell": "7a72f9ddd9a9e145fb7e794f8873f4a9",
    "ruby": "e5a5d0dce456a69b44c126398972744a",
    "php": "0b9d10557c42ec3114dde814d689f58e",
    "csharp": "1d030598bdf4bbfc31ac34349dbd4a20",
    "css": "260a2b915ed84633a097fc782a57121d",
    "sql": "818cdfdb93b2c6d19a3dcb59993a572f",
    "xml": "10d04f2323cac874993cfe449fb07669",
    "latex": "8e140ec110208b926bc5456e40c90868",
    "swedish": "caefc17c1e4c83a433f99d03fb8c7d34",
    "danish": "338a9a4391a5a8764741cb0ab734f950",
    "finnish": "eb64a0c8bd951000f7cd36b14002b8f6",
    "czech": "0980ece7993195ebb6960d372f19b8f0",
    "hungarian": "d712abfc58a2ab73c8884fcf0fcd9933",
    "romanian": "314a19973728515ee9b5a529c08ffd4e",
    "greek": "b18dd666c63bc5851f7dcf06b3a9a7ce",
    "hebrew": "09d5e15fe4a21709878d9fabca24710b",
    "persian": "8ec6cf332fb381db6c1d588edbca69c8",
    "hindi": "1f7d36d07a657308a3f64f75c1887dba",
    "indonesian": "196385a4f14cd61270055f64efde233f",
    "vietnamese": "cced292d5a5f41e54c9678cfc21a6ff9",
}
"""Of the samples 1, 2, .., BLAKE2b of 16 bytes; 0 means none."""
NAMES = tuple(CHECKSUMS)

LEAST_BYTES = 64  # of a content that is worth a look
PROBE_BYTES = 6
PROBES, MORE_PROBES = 64, 256
WORTHWHILE = 8  # one in so many probes has to be found


@cache
def text(number: int | None) -> bytes:
    """The sample of that number, words and text; empty for 0 and None.

    Raises
    ------
    ExactnessError: it is not there, or not as it has to be; archives would then open nowhere else.
    """
    if not number:
        return b""
    found = part(number, "words") + part(number, "txt")
    if hashlib.blake2b(found, digest_size=16).hexdigest() != CHECKSUMS[NAMES[number - 1]]:
        raise ExactnessError(f"the sample {NAMES[number - 1]} was changed: install chunker again")
    return found


@cache
def part(number: int, suffix: str) -> bytes:
    """One of the two files of a sample: `words` or `txt`. Raises ExactnessError."""
    path = Path(__file__).parent / "samples" / f"{NAMES[number - 1]}.{suffix}"
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExactnessError(f"{path} cannot be read ({error.strerror}): install chunker again") from error


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
    """The number of the sample that a content is most like: most of some pieces of it occur in its text.

    0 if none is like it, if the content is short, or if both do not fit into `most_bytes`. Samples that are
    nearly as good as the best one are looked at twice, with more pieces.
    """
    if len(content) < LEAST_BYTES:
        return 0
    found = _likeness(content, list(range(1, len(NAMES) + 1)), PROBES)
    best = max(found.values())
    if best * WORTHWHILE < 1:
        return 0
    close = [number for number, share in found.items() if share >= best * 3 / 4]
    found = _likeness(content, close, MORE_PROBES)
    chosen = max(close, key=found.__getitem__)
    return chosen if len(text(chosen)) + len(content) <= most_bytes else 0


def _likeness(content: bytes, numbers: list[int], probes: int) -> dict[int, float]:
    """For each of these samples, the share of pieces of a content, evenly spread, that occur in its text."""
    places = len(content) - PROBE_BYTES + 1
    count = min(probes, places)
    starts = [k * places // count for k in range(count)]
    pieces = [content[at : at + PROBE_BYTES] for at in starts]
    return {number: sum(piece in part(number, "txt") for piece in pieces) / count for number in numbers}
