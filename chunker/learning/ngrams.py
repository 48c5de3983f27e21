"""Vectors of the last n symbols, hashed: what level 0 is told besides its latest symbol.

A recurrent net has to build words from bytes step by step, in the width it has. A table keeps what is
known of a few symbols in a row at the price of a look-up (hash n-gram embeddings: Pagnoni et al. 2024, Byte
latent transformer, section 3.2.1; hashing: Weinberger et al. 2009). Twin: chunker.core.ngrams.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chunker.config import NGrams
from chunker.core.ngrams import BASE, SPREAD

_MASK = 0xFFFFFFFF


def ngram_rows(symbols: Tensor, recent: Tensor, config: NGrams) -> Tensor:
    """Which rows of the table the n-grams that end with each symbol are, (orders, T, B) int64.

    symbols: (T, B). recent: (B, longest - 1), the symbols before them plus one, latest first; 0 for none.
    """
    before = recent.t().flip(0)
    padded = torch.cat([before, symbols + 1])
    key, power = torch.zeros_like(symbols), 1
    rows: list[Tensor] = []
    shift = 32 - (config.rows.bit_length() - 1)
    for age in range(config.longest):
        end = len(padded) - age
        key = (key + padded[end - len(symbols) : end] * power) & _MASK
        power = power * BASE & _MASK
        if age + 1 in config.orders:
            rows.append((((key * SPREAD) & _MASK) >> shift) + len(rows) * config.rows)
    return torch.stack(rows)


def ngram_code(table: Tensor, rows: Tensor, dropout: float = 0.0) -> Tensor:
    """(T, B, width): the sum of the rows (orders, T, B) of the table, clipped to [-1, 1] like a state.

    dropout: the share of the places at which the rows are left out from one of the orders on, as if the
    text had not been met before: a text read many times leaves no n-gram unknown, other texts have them.
    """
    total = nn.functional.embedding(rows[0], table)
    if dropout == 0:
        for order in rows[1:]:
            total = total + nn.functional.embedding(order, table)
        return total.clamp(-1, 1)
    # Told are the orders before `told`: all of them, or with this probability any smaller number.
    told = torch.randint(len(rows), rows.shape[1:], device=rows.device)
    told[torch.rand(told.shape, device=rows.device) >= dropout] = len(rows)
    total = total * (told > 0).unsqueeze(-1)
    for index, order in enumerate(rows[1:], 1):
        total = total + nn.functional.embedding(order, table) * (told > index).unsqueeze(-1)
    return total.clamp(-1, 1)


def follow(symbols: Tensor, recent: Tensor) -> Tensor:
    """`recent` (B, k) after the symbols (T, B)."""
    newest = symbols[-recent.shape[1] :].flip(0).t() + 1 if recent.shape[1] else recent
    return torch.cat([newest, recent], 1)[:, : recent.shape[1]]
