"""The readout of level 0 learns while it codes, to the same bits on every machine.

Every `WINDOW` steps the weights and the bias from level 0's state to the logits take one step of AdaGrad
(Duchi et al. 2011) down the gradient of the code length, summed over the window and all lanes of the block.
The cells stay as they are, so nothing has to be propagated back in time. What was predicted carries no
information: a symbol that was expected at nine to one is left out, and so are the weights of symbols that
neither came nor were expected in the window.

Exact like the rest: the gradient is a product of integers in float64 (|h| <= A, |error| <= 2**24, at most
2**12 rows: all sums below 2**53), everything else is element by element in float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chunker.coding import exact
from chunker.coding.frequencies import TOTAL, Weights

Floats = NDArray[np.float32]

WINDOW = 16
RATE = np.float32(0.008)
DAMPING = np.float32(2.0**-8)
EXPECTED = 15_099_494  # frequencies from here on, 0.9 of 2**24, teach nothing
RARE = TOTAL >> 11  # mean frequency in a window below which a symbol's weights stay as they are
SMALLEST_CAP = 160  # weights may grow from 127 steps to at least this


class LearningReadout:
    """One block's own copy of level 0's readout.

    integers: (H, V) weights in whole steps. scale: (V,) nats a step. bias: (V,) nats. unit: of the logits.
    Held transposed, (V, H), so that one symbol's weights lie side by side.
    """

    def __init__(self, integers: Floats, scale: Floats, bias: Floats, unit: np.float32) -> None:
        widest = exact.MANTISSA // (len(integers) * SMALLEST_CAP)
        self._activations = 1 << max(widest.bit_length() - 1, 0)
        self._cap = np.float32(exact.MANTISSA // (len(integers) * self._activations))
        self._integers = np.clip(integers.T, -self._cap, self._cap)
        self._weights = self._integers.copy()
        self._scale = scale * unit / np.float32(self._activations)
        self._bias = bias * unit
        self._weight_rate, self._bias_rate = (RATE / scale)[:, None], RATE * unit
        self._weight_squares = np.zeros_like(self._weights)
        self._bias_squares = np.zeros_like(self._bias)
        self._h = np.zeros((0, len(integers)), dtype=np.float32)
        self._taught: list[tuple[Floats, Floats]] = []
        self._came = np.zeros(len(bias))
        self._steps = self._seen = 0

    def __call__(self, h: Floats) -> Floats:
        """(n, H) -> logits (n, V) float32."""
        self._h = h * np.float32(self._activations)
        np.rint(self._h, out=self._h)
        out = np.empty((len(h), len(self._integers)), dtype=np.float32)
        exact.product(self._h, self._integers.T, out)
        out *= self._scale
        out += self._bias
        return out

    @property
    def cap(self) -> int:
        """Bound of the integers."""
        return int(self._cap)

    @property
    def integers(self) -> Floats:
        """(V, H): the weights in whole steps, as they are now; `learn` changes them in place."""
        integers: Floats = self._integers
        return integers

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes."""
        self._h = self._h[:lanes]

    def learn(self, frequencies: Weights, symbols: NDArray[np.intp]) -> None:
        """Take in the symbols (n,) that came where the last logits led to frequencies - 1 (n, V)."""
        lanes = np.arange(len(symbols))
        rows = np.flatnonzero(frequencies[lanes, symbols] < EXPECTED - 1)
        came = symbols[rows]
        # 2**24 times the gradient p - 1[symbol] of the code length, but for the + 1 of f
        error = frequencies[rows].astype(np.float32)
        error[lanes[: len(rows)], came] -= TOTAL - 1
        self._taught.append((self._h[rows], error))
        np.add.at(self._came, came, TOTAL)
        self._seen += len(symbols)
        self._steps += 1
        if self._steps == WINDOW:
            self._step()

    def _step(self) -> None:
        error = np.concatenate([errors for _, errors in self._taught])
        total = error.sum(0, dtype=np.float64)
        which = np.flatnonzero(total + 2 * self._came >= RARE * self._seen)
        h = np.concatenate([rows for rows, _ in self._taught])
        unit = 1 / (TOTAL * self._seen)
        sums = exact.wide_product(error[:, which].T.astype(np.float64), h.astype(np.float64))
        slope = (sums * (unit / self._activations)).astype(np.float32)
        squares = self._weight_squares[which]
        weights = self._weights[which] - adagrad(slope, squares, DAMPING) * self._weight_rate[which]
        np.clip(weights, -self._cap, self._cap, out=weights)
        self._weight_squares[which], self._weights[which] = squares, weights
        self._integers[which] = np.rint(weights)
        slope = (total * unit).astype(np.float32)
        self._bias -= adagrad(slope, self._bias_squares, DAMPING) * self._bias_rate
        self._taught, self._steps, self._seen = [], 0, 0
        self._came[:] = 0


def adagrad(slope: Floats, squares: Floats, damping: np.float32) -> Floats:
    """AdaGrad's direction g / (sqrt(sum of all g**2) + damping); adds g**2 to `squares`."""
    squares += slope * slope
    size: Floats = np.sqrt(squares)
    size += damping
    np.divide(slope, size, out=size)
    return size
