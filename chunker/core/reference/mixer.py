"""The mixture: inputs, weights chosen by contexts, and a second layer. FORMAT.md, "Weights".

Mahoney 2005, section 3: the logarithms of odds of all predictions are added up with weights that follow the
gradient of the coding cost,

    p = squash(sum_i w_i x_i)        w_i += rate * (bit - p) * x_i

Here seven sets of weights do so; of each of them a selector of its own chooses one row. Two final mixers take
the seven outputs for inputs, and the mean of theirs is the mixture's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chunker.core.reference.tables import STRETCH_LIMIT, clamp, squash

ONE = 1 << 20  # a weight of 1.0
WEIGHT_LIMIT = (1 << 23) - 1
OUTPUT_LIMIT = 2047  # of a set, in 1/256 nat
SURE_ERROR = 200  # errors up to this, of 65536, train nothing
RATE_LEAST, RATE_MORE, RATE_FADE = 40, 400, 40  # in 2**-14
FINAL_RATE = 60
FINAL_LIMIT = 1 << 22

Integers = NDArray[np.int32]


class Mixer:
    """Both layers.

    sizes: how many rows each of the S sets of weights has. final_sizes: the same of the final mixers.
    initial: the weights (inputs,) of a row that was never trained.
    """

    def __init__(self, sizes: Sequence[int], final_sizes: Sequence[int], initial: Sequence[int]) -> None:
        self._sets = len(sizes)
        self._first = [sum(sizes[:s]) for s in range(self._sets)]
        self._weights: Integers = np.tile(np.array(initial, dtype=np.int32), (sum(sizes), 1))
        self._trained = [0] * sum(sizes)  # how often
        equal = [ONE // self._sets] * self._sets
        self._final = [[equal.copy() for _ in range(size)] for size in final_sizes]
        # of the last call:
        self._x: Integers = np.zeros(len(initial), dtype=np.int32)
        self._rows: list[int] = []
        self._chosen: list[list[int]] = []
        self._outputs: list[int] = []
        self._final_p: list[int] = []

    def __call__(self, x: Integers, selected: Sequence[int], final_selected: Sequence[int]) -> int:
        """The logarithm of odds of a 1, in 1/256 nat.

        x: (inputs,). selected: (S,) the row of each set. final_selected: the same of the final mixers.
        """
        self._x = x
        self._rows = [first + number for first, number in zip(self._first, selected, strict=True)]
        sums = (self._weights[self._rows] >> 8) @ x  # (S,), modulo 2**32, from -2**31
        self._outputs = [clamp(total >> 12, OUTPUT_LIMIT) for total in sums.tolist()]
        self._chosen = [final[number] for final, number in zip(self._final, final_selected, strict=True)]
        odds = []
        for weights in self._chosen:
            total = sum(w * output for w, output in zip(weights, self._outputs, strict=True))
            odds.append(clamp(total >> 20, STRETCH_LIMIT))
        self._final_p = [squash(one) for one in odds]
        return sum(odds) >> 1

    def learn(self, bit: int) -> None:
        """The bit that came after the last call."""
        self._learn_sets(bit)
        for weights, p in zip(self._chosen, self._final_p, strict=True):
            error = ((bit << 16) - p) * FINAL_RATE >> 10
            for s, output in enumerate(self._outputs):
                weights[s] = clamp(weights[s] + ((output * error + 128) >> 8), FINAL_LIMIT)

    def _learn_sets(self, bit: int) -> None:
        """w = w + (x * error + 128 >> 8); the error times a rate that fades as a row is trained more
        often."""
        steps = []
        for row, output in zip(self._rows, self._outputs, strict=True):
            rate = RATE_LEAST + RATE_MORE * RATE_FADE // (RATE_FADE + self._trained[row])
            self._trained[row] = min(self._trained[row] + 1, 65535)
            error = (bit << 16) - squash(output)
            steps.append(error * rate >> 10 if abs(error) > SURE_ERROR else 0)
        weights = np.multiply.outer(np.array(steps, dtype=np.int32), self._x)  # below 2**31
        weights += 128
        weights >>= 8
        weights += self._weights[self._rows]
        np.minimum(weights, WEIGHT_LIMIT, out=weights)
        np.maximum(weights, -WEIGHT_LIMIT, out=weights)
        self._weights[self._rows] = weights
