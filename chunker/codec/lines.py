"""What each line of a text costs in an archive, and which lines are unlike the others. Nothing is trained.

A byte counts with what it costs after the lines before it or after the lines behind it, whichever is less, so
that the first of many alike is not unusual. The bytes of a line are joined into tokens: runs of letters and
digits, and single other characters. A token's place is the shape of the two tokens before it, where a token
that holds a digit has the shape 0. Whatever varies from line to line at one place, such as a block's number,
is dear there in all of them:

    usual(token)  = the most bits of another token at that place, one and a further 5 % of them left out
    excess(line)  = sum over tokens of max(0, bits(token) - usual(token))
    score(line)   = max(0, excess - median) / spread
    spread        = (90th percentile - median) / 1.28, at least 1 bit

A line that costs no more than is usual, as most short ones, has a score of 0.
The spread is the standard deviation if excess is normally distributed,
and a tenth of unusual lines does not change it.
"""

from __future__ import annotations

import re
import statistics
from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chunker.codec import presets
from chunker.codec.pool import Advance, ignore
from chunker.codec.presets import Preset
from chunker.codec.tracing import trace
from chunker.errors import CorpusError

if TYPE_CHECKING:
    from chunker.codec.finder import ModelLike

THRESHOLD = 5.0  # of the score above which a line is unusual
SMALLEST_SPREAD_BITS = 1.0  # lines that differ by less are all alike
RARE = 0.05  # share of the tokens at a place, besides one, that may cost more than is usual there
NORMAL_90 = 1.2816  # 90th percentile of the standard normal distribution

_TOKEN = re.compile(rb"[0-9A-Za-z]+|[^0-9A-Za-z]")
_DIGIT = re.compile(rb"[0-9]")


@dataclass(frozen=True)
class Line:
    """A line, its end included.

    bits: of each of its bytes, after all that comes before it.
    levels: of each of its bytes; 0: contexts alone, 1: the first recurrent level woke, 2: the second one took
    in the byte before, and so on.
    score: see above.
    """

    number: int
    text: bytes
    bits: list[float]
    levels: bytes
    score: float


def read_lines(
    data: bytes,
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    advance: Advance = ignore,
) -> list[Line]:
    """The lines of a text, in order; they end with LF, CRLF or CR.

    The arguments are those of `trace`, and every byte is coded twice.

    Raises
    ------
    CorpusError: there are no lines. ModelNotFound, NotAModel, ModelVersionError, UsageError.
    """
    if not data.strip(b"\r\n"):
        raise CorpusError("is empty; name a file with lines in it")
    texts = data.splitlines(keepends=True)
    if not texts[-1].endswith((b"\r", b"\n")):
        texts[-1] += b"\n"
    there, back = (
        trace(b"".join(order), preset, model=model, workers=workers, advance=advance)
        for order in (texts, texts[::-1])
    )
    lines, costs, begin, total = [], [], 0, len(there.bits)
    for text in texts:
        end = begin + len(text)
        costs.append([*map(min, there.bits[begin:end], back.bits[total - end : total - begin])])
        lines.append((text, there.bits[begin:end].tolist(), there.levels[begin:end]))
        begin = end
    scores = _scores(_excesses(texts, costs))
    return [
        Line(number, *line, score) for number, (line, score) in enumerate(zip(lines, scores, strict=True), 1)
    ]


Place = tuple[bytes, bytes]


def _excesses(texts: list[bytes], costs: list[list[float]]) -> list[float]:
    """For each line the bits of its tokens above what is usual at their places. costs: bits of each byte."""
    lines = [_tokens(text, bits) for text, bits in zip(texts, costs, strict=True)]
    at: defaultdict[Place, array[float]] = defaultdict(lambda: array("d"))
    for tokens in lines:
        for place, bits in tokens:
            at[place].append(bits)
    dearest = {place: sorted(found, reverse=True) for place, found in at.items()}
    return [sum(max(bits - _usual(bits, dearest[place]), 0.0) for place, bits in line) for line in lines]


def _tokens(text: bytes, costs: list[float]) -> list[tuple[Place, float]]:
    """Place and bits of each token of a line."""
    found, before = [], (b"", b"")
    for token in _TOKEN.finditer(text):
        found.append((before, sum(costs[token.start() : token.end()])))
        before = (before[1], b"0" if _DIGIT.search(token[0]) else token[0])
    return found


def _usual(bits: float, dearest: list[float]) -> float:
    """What is usual at a place, seen from one of its tokens. dearest: bits of all of them, falling."""
    rank = 1 + int(RARE * (len(dearest) - 1))
    if bits >= dearest[min(rank, len(dearest) - 1)]:
        rank += 1  # the token itself is not one of the others
    return dearest[rank] if rank < len(dearest) else 0.0


def _scores(excesses: list[float]) -> list[float]:
    middle = statistics.median(excesses)
    high = sorted(excesses)[len(excesses) * 9 // 10]
    spread = max((high - middle) / NORMAL_90, SMALLEST_SPREAD_BITS)
    return [max(excess - middle, 0.0) / spread for excess in excesses]
