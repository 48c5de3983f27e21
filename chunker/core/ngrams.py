"""Vectors of the last n symbols and of the word so far, hashed, in the integer model; see
chunker.learning.ngrams.

The key of the last n symbols before and with s_t follows from the keys before s_t, modulo 2**32:

    key_n(t) = BASE * key_(n-1)(t - 1) + s_t + 1,    key_0 = 0, and all keys are 0 at the start

A word is a run of letters, capital ones of ASCII as small ones. With c the byte s_t made small,

    word(t) = BASE * word(t - 1) + c + 1 if s_t is a letter, else 0

the key of the word so far is BASE * word(t) + s_t + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chunker.config import NGrams
from chunker.core import tables
from chunker.core.products import LARGEST, TABLE_BITS, Integers

BASE = 0x2F0B4C47
SPREAD = 0x2545F491  # multiplied by it, a key has highest bits that depend on all of its bits


LOWER = np.array(tables.LOWER, np.uint32)


class NGramTable:
    """A model's table, shared by all sessions. rows: (tables * rows, width) int8. multiplier: (width,) int32.

    The rows stay bytes until they are looked up: four times as many of them fit into the cache.
    """

    def __init__(self, config: NGrams, rows: NDArray[np.int8], multiplier: NDArray[np.int32]) -> None:
        self._rows, self._multiplier = rows, multiplier.astype(np.int64)
        self.config = config
        self._wanted = np.array([*(n - 1 for n in config.orders), *[config.longest] * config.word])
        self._shift = np.uint64(32 - (config.rows.bit_length() - 1))
        self._first = (np.arange(config.tables) * config.rows)[:, None]

    def __call__(self, keys: NDArray[np.uint32]) -> Integers:
        """(n, width) of -127 .. 127, unit 2**-7, from keys (longest + word, n), see `LastSymbols`."""
        spread = keys.take(self._wanted, axis=0)
        spread *= np.uint32(SPREAD)
        which = (spread.astype(np.uint64) >> self._shift).astype(np.intp)
        which += self._first
        total = self._rows.take(which, axis=0).sum(0, dtype=np.int64)
        total *= self._multiplier
        total += 1 << (TABLE_BITS - 1)
        total >>= TABLE_BITS
        code: Integers = np.clip(total, -LARGEST, LARGEST).astype(np.int32)
        return code


class LastSymbols:
    """What n lanes read last.

    keys: (longest + word, n), of the last 1, 2, .. symbols and of the word so far. word: (n,), the key of the
    letters right before; None where words are not read.
    """

    def __init__(self, lanes: int, config: NGrams) -> None:
        self.keys = np.zeros((config.longest + config.word, lanes), dtype=np.uint32)
        self.word = np.zeros(lanes, dtype=np.uint32) if config.word else None
        self._longest = config.longest

    def follow(self, symbols: NDArray[np.intp]) -> NDArray[np.uint32]:
        """The keys after the symbols (n,)."""
        keys, longest = np.empty_like(self.keys), self._longest
        latest = symbols.astype(np.uint32) + np.uint32(1)
        keys[0] = latest
        np.multiply(self.keys[: longest - 1], np.uint32(BASE), out=keys[1:longest])
        keys[1:longest] += latest
        if self.word is not None:
            small = LOWER[symbols]
            self.word = np.where(small > 0, self.word * np.uint32(BASE) + small, np.uint32(0))
            keys[longest] = self.word * np.uint32(BASE) + latest
        self.keys = keys
        return keys

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes."""
        self.keys = self.keys[:, :lanes]
        self.word = None if self.word is None else self.word[:lanes]
