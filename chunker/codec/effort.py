"""How much work stands where in a content: what a progress bar goes by.

Bytes alone tell little of time: one of prose takes hundreds of times as long as one of zeros, and twice as
long as one of a log, for which the nets seldom wake. Work is counted in nanoseconds, those of one machine,
with the native core and the built-in models, on files of prose, code, logs, JSON and tables. Only ratios
matter: the speed is learnt while running.
"""

from __future__ import annotations

import time
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import BinaryIO

from chunker.codec import archive, presets
from chunker.codec.blocks import MONOTONY
from chunker.codec.frames import Head, Kind
from chunker.core.backend import GATE_ALWAYS, Contexts, Settings

# Nanoseconds a byte; `bits`: what it costs in the archive.
CONTEXTS = {Contexts.FEW: 3_100, Contexts.MANY: 5_200, Contexts.ALL: 6_000}
CONTEXTS_BIT = 400  # more for each of its bits
# Where they wake, of the built-in models.
NETS = {Contexts.FEW: 2_800, Contexts.MANY: 12_500, Contexts.ALL: 12_500}
AWAKE = 0.42 / 600**0.5  # how often they do, for each of its bits and a gate of 1; with the root of the gate
PACK_NOISE, PACK_MONOTONY = 430, 30
UNPACK_RAW, UNPACK_LZMA = 1, 2
# What the core makes of so many bits that zlib takes for a byte at its quickest.
ZLIB_SHARE, ZLIB_LESS, LEAST_BITS = 0.52, 0.3, 0.1

LEAST_BYTES = 1 << 23  # a shorter content is not worth the look
PIECE_BYTES = 1 << 14
PIECES, PIECES_A_BLOCK = 1 << 11, 16  # at most
SECONDS = 1.0  # at most, for all pieces


class Effort:
    """The work of a content, from its begin to each position; it rises evenly within a part."""

    def __init__(self, parts: Iterable[tuple[int, float]]) -> None:
        """parts: bytes and work of each, in order."""
        self._ends, self._works = [0], [0.0]
        for n_bytes, work in parts:
            self._ends.append(self._ends[-1] + n_bytes)
            self._works.append(self._works[-1] + work)

    @property
    def n_bytes(self) -> int:
        """Bytes in all."""
        return self._ends[-1]

    @property
    def total(self) -> float:
        """Work in all."""
        return self._works[-1]

    def until(self, at: int) -> float:
        """The work of the first `at` bytes."""
        after = bisect_right(self._ends, at)
        if after == len(self._ends):
            return self.total
        begin, end = self._ends[after - 1], self._ends[after]
        low, high = self._works[after - 1], self._works[after]
        return low + (high - low) * (at - begin) / (end - begin)


def of_archive(file: BinaryIO) -> Effort:
    """Of decompressing a file of one or several archives, which the heads of their blocks tell.

    Raises
    ------
    ArchiveError.
    """
    return Effort((head.size, head.size * _unpacking(head)) for head, _, _ in archive.read_table(file).blocks)


def of_content(
    file: BinaryIO, n_bytes: int, settings: Settings, clock: Callable[[], float] = time.perf_counter
) -> Effort:
    """Of compressing what follows in a file, which is guessed from short pieces of it.

    file: one that can seek; it stays where it is. Of less than LEAST_BYTES all bytes count alike.
    """
    if n_bytes < LEAST_BYTES:
        return Effort([(n_bytes, float(n_bytes))])
    sizes = presets.plan(n_bytes)
    # Parts of a block, each with a piece in its middle.
    count = max(1, min(PIECES_A_BLOCK, PIECES // len(sizes)))
    parts = [size * (k + 1) // count - size * k // count for size in sizes for k in range(count)]
    found = _looked_at(file, parts, clock)
    return Effort(
        part
        for k in range(0, len(parts), count)
        for part in _packing(parts[k : k + count], found[k : k + count], settings)
    )


def _looked_at(file: BinaryIO, parts: list[int], clock: Callable[[], float]) -> list[float]:
    """What zlib takes for a byte of each part, in bits; where there is no time, of the part before."""
    found: list[float | None] = [None] * len(parts)
    begins = [0, *accumulate(parts)]
    begin, until = file.tell(), clock() + SECONDS
    # Ever closer together, so that they are spread evenly whenever the time is up.
    for k in sorted(range(len(parts)), key=lambda k: -(k & -k) if k else -len(parts))[:PIECES]:
        file.seek(begin + begins[k] + max(parts[k] - PIECE_BYTES, 0) // 2)
        piece = file.read(PIECE_BYTES)
        if piece:
            found[k] = 8 * len(zlib.compress(piece, 1)) / len(piece)
        if clock() > until:
            break
    file.seek(begin)
    return list(accumulate(found, lambda last, bits: last if bits is None else bits, initial=8.0))[1:]


def _packing(parts: list[int], zlib_bits: list[float], settings: Settings) -> Iterator[tuple[int, float]]:
    """Bytes and work of each part of a block; the whole of it decides whether the core codes it."""
    mean = sum(zlib_bits) / len(parts)
    for n_bytes, bits in zip(parts, zlib_bits, strict=True):
        if mean >= 8:
            yield n_bytes, n_bytes * PACK_NOISE
        elif mean * MONOTONY < 8:
            yield n_bytes, n_bytes * PACK_MONOTONY
        else:
            yield n_bytes, n_bytes * _coding(settings, max(ZLIB_SHARE * bits - ZLIB_LESS, LEAST_BITS))


def _unpacking(head: Head) -> float:
    """Work for a byte of a block."""
    if head.settings is None:
        return UNPACK_RAW if head.kind is Kind.RAW else UNPACK_LZMA
    return _coding(head.settings, 8 * head.payload_size / max(head.size, 1))


def _coding(settings: Settings, bits: float) -> float:
    """Work of the core for a byte that it codes in so many bits."""
    awake = 1.0 if settings.gate == GATE_ALWAYS else min(AWAKE * bits * settings.gate**0.5, 1.0)
    return CONTEXTS[settings.contexts] + CONTEXTS_BIT * bits + NETS[settings.contexts] * awake
