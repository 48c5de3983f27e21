"""Hashed n-gram embeddings: what level 0 reads besides its latest symbol.

For each order n a table has a vector for every hash of the last n symbols, and so for the word so far; all
these vectors are added (Pagnoni et al. 2024, Byte latent transformer, section 3.2.1; hashing: Weinberger et
al. 2009). A narrow recurrent net then need not build common sequences symbol by symbol. The integer model's
are in chunker.core.ngrams, which defines the keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from chunker.config import NGrams
from chunker.core.ngrams import BASE, LOWER, SPREAD

_MASK = 0xFFFFFFFF
_LOWER = torch.from_numpy(LOWER.astype(np.int64))


def ngram_rows(symbols: Tensor, recent: Tensor, word: Tensor | None, config: NGrams) -> Tensor:
    """Which rows of the table the n-grams and words that end with each symbol are, (tables, T, B) int64.

    symbols: (T, B). recent: (B, longest - 1), the symbols before them plus one, latest first; 0 for none.
    word: (B,), see `follow_word`; None: words are not read.
    """
    padded = torch.cat([recent.t().flip(0), symbols + 1])
    ends = (len(padded) - age for age in range(config.longest))
    keys = None if word is None else word_keys(symbols, follow_word(symbols, word)[1:])
    return rows_of_latest((padded[end - len(symbols) : end] for end in ends), keys, config)


def rows_of_latest(latest: Iterable[Tensor], words: Tensor | None, config: NGrams) -> Tensor:
    """Which rows of the table n-grams and words are, (tables, ...) int64.

    latest: (...) int64, the last symbol plus one of each place, then the one before it, and so on, `longest`
    in all; 0 for none. words: (...) int64, the keys of words so far; None: they are not read.
    """
    key: Tensor | int = 0
    power = 1
    keys: list[Tensor] = []
    for n, symbols in enumerate(latest, 1):
        key = (key + symbols * power) & _MASK
        power = power * BASE & _MASK
        if n in config.orders:
            keys.append(key)
    if words is not None:
        keys.append(words)
    shift = 32 - (config.rows.bit_length() - 1)
    rows = [(((key * SPREAD) & _MASK) >> shift) + table * config.rows for table, key in enumerate(keys)]
    return torch.stack(rows)


def ngram_code(table: Tensor, rows: Tensor, dropout: float = 0.0) -> Tensor:
    """(T, B, width): the sum of the rows (tables, T, B) of the table, clipped to [-1, 1] like a state.

    dropout: the probability, at each place, of dropping all rows from a random one upwards. A text that is
    read many times leaves no n-gram unknown; so the net learns what to do with unknown ones.
    """
    total = nn.functional.embedding(rows[0], table)
    if dropout == 0:
        for order in rows[1:]:
            total = total + nn.functional.embedding(order, table)
        return total.clamp(-1, 1)
    # How many are kept: all of them, or with this probability any smaller number.
    kept = torch.randint(len(rows), rows.shape[1:], device=rows.device)
    kept[torch.rand(kept.shape, device=rows.device) >= dropout] = len(rows)
    total = total * (kept > 0).unsqueeze(-1)
    for index, order in enumerate(rows[1:], 1):
        total = total + nn.functional.embedding(order, table) * (kept > index).unsqueeze(-1)
    return total.clamp(-1, 1)


def carry_vectors(table: Tensor, config: NGrams, new: Tensor, wanted: NGrams) -> Tensor:
    """`new`, with those vectors of n-grams and words that the table has, too. Both have as many rows."""

    def tables(config: NGrams) -> list[int | str]:
        return [*config.orders, *["word"] * config.word]

    there = dict(zip(tables(config), torch.split(table, config.rows), strict=True))
    parts = zip(tables(wanted), torch.split(new, wanted.rows), strict=True)
    return torch.cat([there.get(which, part) for which, part in parts])


def follow(symbols: Tensor, recent: Tensor) -> Tensor:
    """`recent` (B, k) after the symbols (T, B)."""
    newest = symbols[-recent.shape[1] :].flip(0).t() + 1 if recent.shape[1] else recent
    return torch.cat([newest, recent], 1)[:, : recent.shape[1]]


def lower(symbols: Tensor) -> Tensor:
    """Of letters the byte made small plus one, of all other bytes 0; int64, the shape of `symbols`."""
    return _LOWER.to(symbols.device)[symbols]


def follow_word(symbols: Tensor, word: Tensor) -> Tensor:
    """(1 + T, B): the key of the letters right before, as `word` (B,) has it and after each of the symbols
    (T, B)."""
    keys = [word]
    for c in lower(symbols):
        keys.append(torch.where(c > 0, (keys[-1] * BASE + c) & _MASK, 0))
    return torch.stack(keys)


def word_keys(symbols: Tensor, word: Tensor) -> Tensor:
    """(T, B): the keys of the words so far at each of the symbols (T, B); word: (T, B), see `follow_word`."""
    return (word * BASE + symbols + 1) & _MASK


def word_keys_before(text: npt.NDArray[np.uint8], at: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint32]:
    """(k,): the keys of the words that stand before the places `at` (k,), all above 0, of a text (n,), as
    `word_keys` gives them one after the other.

    With c_i a letter made small plus one, and p after it, the letters from a to p have the key

        sum over i of c_i BASE^(p - 1 - i) = BASE^(p - 1) (S(p) - S(a)),
        S(p) = sum over i < p of c_i BASE^-i

    for BASE has an inverse modulo 2^32.
    """
    n = len(text)
    small = LOWER[text]

    def powers(base: int) -> npt.NDArray[np.uint32]:
        factors = np.full(n + 1, base, np.uint32)
        factors[0] = 1
        return np.cumprod(factors, dtype=np.uint32)

    summed = np.zeros(n + 1, np.uint32)
    np.cumsum(small * powers(pow(BASE, -1, 1 << 32))[:n], dtype=np.uint32, out=summed[1:])
    begins = np.arange(n + 1)  # of the letters before each place
    begins[1:][small > 0] = 0
    begins = np.maximum.accumulate(begins)
    word = (summed[at] - summed[begins[at]]) * powers(BASE)[at - 1]
    keys: npt.NDArray[np.uint32] = word * np.uint32(BASE) + text[at - 1] + np.uint32(1)
    return keys
