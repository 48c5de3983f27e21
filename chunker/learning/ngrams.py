"""Hashed n-gram embeddings: what level 0 reads besides its latest symbol.

For each order n a table has a vector for every hash of the last n symbols; the vectors of all orders are
added (Pagnoni et al. 2024, Byte latent transformer, section 3.2.1; hashing: Weinberger et al. 2009). A narrow
recurrent net then need not build common sequences symbol by symbol. The integer model's are in
chunker.core.ngrams.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from chunker.config import NGrams
from chunker.core.ngrams import BASE, SPREAD

_MASK = 0xFFFFFFFF


def ngram_rows(symbols: Tensor, recent: Tensor, config: NGrams) -> Tensor:
    """Which rows of the table the n-grams that end with each symbol are, (orders, T, B) int64.

    symbols: (T, B). recent: (B, longest - 1), the symbols before them plus one, latest first; 0 for none.
    """
    padded = torch.cat([recent.t().flip(0), symbols + 1])
    ends = (len(padded) - age for age in range(config.longest))
    return rows_of_latest((padded[end - len(symbols) : end] for end in ends), config)


def rows_of_latest(latest: Iterable[Tensor], config: NGrams) -> Tensor:
    """Which rows of the table n-grams are, (orders, ...) int64.

    latest: (...) int64, the last symbol plus one of each place, then the one before it, and so on, `longest`
    in all; 0 for none.
    """
    key: Tensor | int = 0
    power = 1
    rows: list[Tensor] = []
    shift = 32 - (config.rows.bit_length() - 1)
    for n, symbols in enumerate(latest, 1):
        key = (key + symbols * power) & _MASK
        power = power * BASE & _MASK
        if n in config.orders:
            rows.append((((key * SPREAD) & _MASK) >> shift) + len(rows) * config.rows)
    return torch.stack(rows)


def ngram_code(table: Tensor, rows: Tensor, dropout: float = 0.0) -> Tensor:
    """(T, B, width): the sum of the rows (orders, T, B) of the table, clipped to [-1, 1] like a state.

    dropout: the probability, at each place, of dropping the rows of all orders from a random one upwards. A
    text that is read many times leaves no n-gram unknown; so the net learns what to do with unknown ones.
    """
    total = nn.functional.embedding(rows[0], table)
    if dropout == 0:
        for order in rows[1:]:
            total = total + nn.functional.embedding(order, table)
        return total.clamp(-1, 1)
    # How many orders are kept: all of them, or with this probability any smaller number.
    kept = torch.randint(len(rows), rows.shape[1:], device=rows.device)
    kept[torch.rand(kept.shape, device=rows.device) >= dropout] = len(rows)
    total = total * (kept > 0).unsqueeze(-1)
    for index, order in enumerate(rows[1:], 1):
        total = total + nn.functional.embedding(order, table) * (kept > index).unsqueeze(-1)
    return total.clamp(-1, 1)


def follow(symbols: Tensor, recent: Tensor) -> Tensor:
    """`recent` (B, k) after the symbols (T, B)."""
    newest = symbols[-recent.shape[1] :].flip(0).t() + 1 if recent.shape[1] else recent
    return torch.cat([newest, recent], 1)[:, : recent.shape[1]]
