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
    "english-prose": "0c09b67cf68644c44bf808a4238b8dc7",
    "english-docs": "04babfd3b2944a6b1fd5cc39bae818ad",
    "german": "c5e7c21601e9c400a3ada5aafe8dab4f",
    "french": "7b9a9640cccf8bd05ecf58db2feed962",
    "spanish": "4958d43439230ada4f2e06d00660c672",
    "italian": "82bbffa3aced600b6c50892889289380",
    "portuguese": "c05fcad378ea47e46380a9c553c757b0",
    "russian": "2d9761bdaf895b884bb5c4518f01ecb7",
    "japanese": "38f980c0d8de747cc1173ab8c9b4e74a",
    "chinese": "9c493adc523cd73f1de686dc4327b03d",
    "c": "115d87d63e75810e83c6ace65829c2b7",
    "python": "93a887d92a5902dbc86598cc58d12542",
    "go": "2776f380a52b298e4043e48bb90cc5a9",
    "java": "a1c0a01117d34b335eec200c09f99772",
    "rust": "61a6af9e7d3047d8ceb3878712dda2af",
    "javascript": "72371d015eecf2c78224e52c73797239",
    "html": "feb80fd42db33b54b03662f6dd87f8e1",
    "json": "149195f4c4bcda4434e936b04e74b818",
    "config": "c36e6b751c197e52a4fe6992befdf230",
    "log": "b736e5bdfb966f646028373a60d99198",
    "dutch": "db6a8872956123f819794941d4569ef3",
    "polish": "405d9dccaa400ccef8c3da003c576303",
    "turkish": "2aeff33bc0ed1a74debec7e3f66d4dbc",
    "ukrainian": "4e534717ecf84db99c633af181d87970",
    "korean": "5003b8bc139a8fe540c5d62e593f5490",
    "arabic": "ff0eb623b84b58ad304a263be2d06d6f",
    "shell": "7a72f9ddd9a9e145fb7e794f8873f4a9",
    "ruby": "8466a08b667d1df260734765fe05b16d",
    "php": "64a8e5a7f95d95222d49f1249021634c",
    "csharp": "744fbd9db68b8ed8e0007d5e34d83c8f",
    "css": "260a2b915ed84633a097fc782a57121d",
    "sql": "423a52549d27132ac069c071f8b024d7",
    "xml": "7f3d0e72d80ce6005d7f0aec5654677a",
    "latex": "8e140ec110208b926bc5456e40c90868",
    "swedish": "caefc17c1e4c83a433f99d03fb8c7d34",
    "danish": "338a9a4391a5a8764741cb0ab734f950",
    "finnish": "a2b237cb128ef4f56ecefe0d23fa85d9",
    "czech": "7b8d4b8dde57d00c86cfc9897b29d846",
    "hungarian": "9919e3fbee1ee7283d6ef7fe78007b4b",
    "romanian": "314a19973728515ee9b5a529c08ffd4e",
    "greek": "af6d1413306f0328966b1c76975132b9",
    "hebrew": "09d5e15fe4a21709878d9fabca24710b",
    "persian": "8ec6cf332fb381db6c1d588edbca69c8",
    "hindi": "d6ebf5a89600144a179da292203c6830",
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
