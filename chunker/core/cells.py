"""One level of the integer model: the cells rnn, gru and lstm on integers alone, for n lanes at once.

Sigmoid and tanh are tables (tables.py), products sums of int8 (products.py), everything else sums and shifts
that round down. FORMAT.md writes the arithmetic down; the native core does the same. It follows
chunker.learning.level and recurrence.

Units: states 2**-15, pre-activations 2**-11, logits 1/128 bit, what enters a product 2**-7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunker.config import NO_GUESS, StackConfig
from chunker.core import products
from chunker.core.ngrams import NGramTable
from chunker.core.products import Integers, Matrix, narrow
from chunker.core.tables import (
    SIGMOID_REACH,
    STATE_BITS,
    STATE_LIMIT,
    STEPS,
    TANH_REACH,
    sigmoid_table,
    tanh_table,
)

Tensors = dict[str, NDArray[Any]]

CELL_LIMIT = 2**20 - 1  # of an LSTM's cell: +-32; from +-6 on its tanh is constant
_HALF = 1 << (STATE_BITS - 1)


def clip16(a: Integers) -> Integers:
    """Pre-activations within 16 bits, further than the tables reach; so a product of two fits 32 bits."""
    return np.clip(a, -STATE_LIMIT, STATE_LIMIT)


def sigmoid(a: Integers) -> Integers:
    """2**15 * sigmoid of pre-activations in 2**-11, by table: steps of 2**-8."""
    position = ((clip16(a) + 4) >> 3) + SIGMOID_REACH * STEPS
    return sigmoid_table().take(position, mode="clip").astype(np.int32)


def tanh(a: Integers) -> Integers:
    """2**15 * tanh of pre-activations in 2**-11, by table: steps of 2**-8."""
    position = ((clip16(a) + 4) >> 3) + TANH_REACH * STEPS
    return tanh_table().take(position, mode="clip").astype(np.int32)


class IntegerLevel:
    """One level's recurrent cell and read-out. Arrays are (n, ...), for n lanes: independent sequences."""

    def __init__(self, config: StackConfig, index: int, tensors: Tensors) -> None:
        self.cell, self.width = config.cell, config.levels[index]

        def parts(name: str) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
            return tensors[f"{index}.{name}.q"], tensors[f"{index}.{name}.multiplier"]

        guess = index == 0 and config.told_guess
        self.symbol_input = products.table(*parts("symbol_input")) + tensors[f"{index}.bias"]
        self.time_input = products.table(*parts("time_input")) if config.told_time(index) else None
        self.guess_input = products.table(*parts("guess_input")) if guess else None
        self.confidence_input = products.table(*parts("confidence_input")) if guess else None
        self.below = Matrix(*parts("below")) if config.below(index) else None
        self.ngrams: NGramTable | None = None
        if index == 0 and config.ngrams is not None:
            self.ngrams = NGramTable(config.ngrams, *parts("ngram_table"))
        self.recurrent, self.readout = Matrix(*parts("recurrent")), Matrix(*parts("readout"))
        self.readout_bias: Integers = tensors[f"{index}.readout_bias"]
        self.time_readout: Matrix | None = None
        if config.predicts_time(index):
            self.time_readout = Matrix(*parts("time_readout"))
            self.time_readout_bias: Integers = tensors[f"{index}.time_readout_bias"]
        if self.cell == "gru":
            self.candidate_bias: Integers = tensors[f"{index}.candidate_bias"]

    def step(
        self,
        h: Integers,
        c: NDArray[np.int64] | None,
        symbols: NDArray[np.intp],
        times: NDArray[np.intp] | int = 0,
        below: Integers | None = None,
        guesses: NDArray[np.intp] | int = NO_GUESS,
        confidences: NDArray[np.intp] | int = 0,
    ) -> tuple[Integers, NDArray[np.int64] | None]:
        """The new h (n, H) and the LSTM's c after one input.

        symbols: (n,). times: (n,) bucket of the time since the last input. below: (n, K) as it enters a
        product. guesses, confidences: (n,), see `chunker.config.Wake`. Inputs that the level does not
        have are ignored.
        """
        a = self.symbol_input.take(symbols, axis=0)
        for rows, which in (
            (self.time_input, times),
            (self.guess_input, guesses),
            (self.confidence_input, confidences),
        ):
            if rows is not None:
                a += rows[which]
        if self.below is not None and below is not None:
            a += self.below(below)
        g = self.recurrent(narrow(h))
        if self.cell == "gru":
            return self._gru(a, g, h), None
        a += g
        if c is None:
            return tanh(a), None
        return self._lstm(a, c)

    def _gru(self, a: Integers, g: Integers, h: Integers) -> Integers:
        H = self.width
        rz = sigmoid(a[:, : 2 * H] + g[:, : 2 * H])
        m = clip16(g[:, 2 * H :] + self.candidate_bias)
        m *= rz[:, :H]  # below 2**30
        m += _HALF
        m >>= STATE_BITS
        n = tanh(a[:, 2 * H :] + m)
        new = h - n
        new *= rz[:, H:]  # below 2**31 - 2**17
        new += _HALF
        new >>= STATE_BITS
        new += n
        return new

    def _lstm(self, a: Integers, c: NDArray[np.int64]) -> tuple[Integers, NDArray[np.int64]]:
        H = self.width
        gates = sigmoid(a[:, : 3 * H])
        c = c * gates[:, H : 2 * H]
        c += gates[:, :H] * tanh(a[:, 3 * H :])
        c += _HALF
        c >>= STATE_BITS
        np.clip(c, -CELL_LIMIT, CELL_LIMIT, out=c)
        squashed = tanh(((c + 8) >> 4).astype(np.int32))
        return (gates[:, 2 * H :] * squashed + _HALF) >> STATE_BITS, c
