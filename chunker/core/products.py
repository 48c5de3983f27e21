"""Products of integers held in floats, exact whatever the machine.

A product h @ W of integers held in float32 is exact, independent of the order of summation, of vector
width, threads, fused multiply-add or BLAS kernel, as long as no partial sum leaves the 24-bit mantissa:
max|h| * sum_i |W_ij| <= 2**24 for every column j. `activation_scale` picks the widest h for which that
holds; `check_machine` compares this machine's products with plain integers before the first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from chunker.core import tables
from chunker.errors import ExactnessError, NotAModel

MANTISSA = 2**24
MAX_ACTIVATION_BITS = 12
FEW_ROWS = (
    3  # up to so many, packing the weights first, as a BLAS does, costs more than reading them for each row
)
TABLES_DIGEST = "70c094c758ff372ae9f1e047e7a78a02"

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def activation_scale(weights: NDArray[np.int8]) -> int:
    """The largest power of two A, at most 2**12, with A * sum_i |weights_ij| <= 2**24 in every column.

    weights: (K, N). Activations in [-1, 1] are rounded to multiples of 1/A before the product.

    Raises
    ------
    NotAModel: even 4 bits do not fit.
    """
    if not weights.size:
        return 1 << MAX_ACTIVATION_BITS
    heaviest = int(np.abs(weights.astype(np.int64)).sum(0).max())
    for bits in range(MAX_ACTIVATION_BITS, 3, -1):
        if heaviest << bits <= MANTISSA:
            return 1 << bits
    raise NotAModel("a level is too wide for exact arithmetic; train one of at most 8000 units")


@dataclass(frozen=True)
class Matrix:
    """A matrix of integers (K, N) held in float32, with what turns its product into table units.

    The product of activations in [-1, 1] is rint(h * activations) @ integers * scale.
    step: (N,) what one integer of a column stands for. unit: of the product.
    """

    integers: Floats
    step: Floats
    unit: np.float32
    activations: np.float32
    scale: Floats  # (N,) step * unit / activations

    @classmethod
    def of(cls, integers: Floats, step: Floats, unit: np.float32, activations: int | np.float32) -> Matrix:
        return cls(integers, step, unit, np.float32(activations), step * unit / np.float32(activations))

    @classmethod
    def build(cls, quantised: NDArray[np.int8], step: Floats, unit: np.float32) -> Matrix:
        integers = np.ascontiguousarray(quantised, dtype=np.float32)
        return cls.of(integers, step, unit, activation_scale(quantised))

    def __call__(self, h: Floats) -> Floats:
        """(n, K) -> (n, N) float32."""
        rounded = h * self.activations
        np.rint(rounded, out=rounded)
        out = np.empty((len(h), self.integers.shape[1]), dtype=np.float32)
        product(rounded, self.integers, out)
        out *= self.scale
        return out


def product(h: Floats, weights: Floats, out: Floats) -> Floats:
    """out = h @ weights, (n, K) @ (K, N), integers held in float32 within the bound above."""
    if check_machine():
        return _float_product(h, weights, out)
    out[...] = integer_product(h, weights)
    return out


def _float_product(h: Floats, weights: Floats, out: Floats) -> Floats:
    if len(h) > FEW_ROWS:
        return np.dot(h, weights, out=out)
    for row, sums in zip(h, out, strict=True):
        np.dot(row, weights, out=sums)
    return out


def integer_product(h: Floats, weights: Floats) -> NDArray[np.int64]:
    """The same in plain 64-bit integers: the reference, and the way out for a machine that fails."""
    return h.astype(np.int64) @ weights.astype(np.int64)


def wide_product(a: Doubles, b: Doubles) -> Doubles:
    """a @ b, (n, K) @ (K, N), integers held in float64; the sums of |a| * |b| must stay below 2**53."""
    if check_machine():
        return a @ b
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(np.float64)


@cache
def check_machine() -> bool:
    """Whether float32 products of integers are exact here, tried on worst cases.

    Raises
    ------
    ExactnessError: the tables or the element-wise arithmetic differ from every other machine's.
    """
    if tables.digest() != TABLES_DIGEST:
        raise ExactnessError("the tables came out different on this machine; reinstall Python and numpy")
    one, three, above_half = (np.full(9, x, dtype=np.float32) for x in (1.0, 3.0, 1.5 * 2.0**-24))
    # 1 + 1.5 * 2**-24 lies between two floats and rounds to 1 + 2**-23, unless extra precision is kept.
    if ((one + above_half) - one != 2.0**-23).any() or (one / three != 11184811 / 2**25).any():
        raise ExactnessError("this machine's float32 arithmetic does not round as IEEE 754 asks")
    rng = np.random.default_rng(0)
    for rows, inner, columns in ((1, 515, 33), (FEW_ROWS, 515, 64), (7, 515, 64), (64, 129, 17)):
        weights = (127 * rng.choice([-1, 1], (inner, columns))).astype(np.float32)
        bound = MANTISSA // (127 * inner)
        for h in (rng.integers(-bound, bound + 1, (rows, inner)), np.full((rows, inner), bound)):
            floats = h.astype(np.float32)
            worst: Floats = np.abs(weights) if h.min() == bound else weights
            out = np.empty((rows, columns), dtype=np.float32)
            if not np.array_equal(_float_product(floats, worst, out), integer_product(floats, worst)):
                return False
        wide = rng.integers(-(2**40), 2**40, (rows, columns))
        if not np.array_equal(h.T.astype(np.float64) @ wide.astype(np.float64), h.T @ wide):
            return False
    return True
