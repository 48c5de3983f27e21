"""A stand-in for a trained stack: it counts bytes, so it is quick, adapts, and is exact.

`reference_encode` and `reference_decode` are the range coder of FORMAT.md in plain Python integers.
"""

from __future__ import annotations

import numpy as np

from chunker.codec.blocks import Learn

TOTAL = 1 << 24
FREE = TOTAL - 256


class CountingSession:
    """Adaptive byte counts, one table per lane."""

    def __init__(self, lanes: int) -> None:
        self.counts = np.ones((lanes, 256), dtype=np.int64)

    def frequencies(self) -> np.ndarray:
        rows = self.counts * FREE // self.counts.sum(axis=1, keepdims=True)
        rows[np.arange(len(rows)), rows.argmax(axis=1)] += FREE - rows.sum(axis=1)
        return np.asarray(rows, dtype=np.float64)

    def update(self, symbols: np.ndarray) -> None:
        self.counts[np.arange(len(self.counts)), symbols] += 32

    def keep(self, lanes: int) -> None:
        self.counts = self.counts[:lanes]

    def close(self) -> None:
        """Nothing works in the background."""


class CountingStack:
    def session(self, lanes: int, learn: Learn = "nothing") -> CountingSession:
        return CountingSession(lanes)


class CountingModel:
    def __init__(self, fingerprint: bytes = bytes(range(1, 33))) -> None:
        self.fingerprint = fingerprint
        self.name = "counting"
        self.sessions = 0

    def integer_stack(self) -> CountingStack:
        self.sessions += 1
        return CountingStack()


def skewed(n_bytes: int, seed: int = 0) -> bytes:
    """Bytes that a counter codes well and lzma does not: independent draws of a few letters."""
    letters = np.frombuffer(b"abcdefgh", dtype=np.uint8)
    drawn = np.random.default_rng(seed).choice(
        letters, size=n_bytes, p=[0.6, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01, 0.01]
    )
    return drawn.tobytes()


def noise(n_bytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(n_bytes)


def mixed(n_bytes: int) -> bytes:
    """Every kind of block in turn, with blocks of 1000 bytes."""
    parts = [skewed(1000, 1), noise(1000, 2), bytes(1000), b"The same line again and again.\n" * 32]
    return b"".join(parts * (n_bytes // 4000 + 1))[:n_bytes]


def rows_of(frequencies: list[int]) -> np.ndarray:
    """One row as the coder wants it, from frequencies that add up to TOTAL."""
    return np.array([frequencies], dtype=np.float64) - 1


def reference_encode(symbols: list[int], tables: list[list[int]]) -> bytes:
    """The shortest payload, by exact arithmetic on numbers of any size."""
    low, width, words = 0, (1 << 64) - 1, 0
    for symbol, table in zip(symbols, tables, strict=True):
        scale = width >> 24
        low += scale * sum(table[:symbol])
        width = scale * table[symbol]
        if width < 1 << 32:
            low, width, words = low << 32, width << 32, words + 1
    size = 4 * words + 8
    for length in range(size + 1):
        step = 1 << 8 * (size - length)
        number = -(-low // step)
        if number * step < low + width:
            return number.to_bytes(length, "big")
    raise AssertionError("an interval cannot be empty")


def reference_decode(payload: bytes, tables: list[list[int]]) -> list[int]:
    """Symbols from a payload that zeros follow without end."""
    data = payload + bytes(8 + 4 * len(tables))
    offset, width, at = int.from_bytes(data[:8], "big"), (1 << 64) - 1, 8
    symbols = []
    for table in tables:
        scale = width >> 24
        target, symbol, below = offset // scale, 0, 0
        while below + table[symbol] <= target:
            below += table[symbol]
            symbol += 1
        symbols.append(symbol)
        offset -= scale * below
        width = scale * table[symbol]
        if width < 1 << 32:
            offset = offset << 32 | int.from_bytes(data[at : at + 4], "big")
            width, at = width << 32, at + 4
    return symbols
