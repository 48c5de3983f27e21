"""Products of integers, computed in floats and exact all the same.

A sum of products of integers is exact in float32 as long as no partial sum can reach 2**24, and in float64
below 2**53: then neither the order of summation nor vector width, threads, fused multiply-add or the BLAS
matter. `check_machine` compares this machine's products with plain integers before the first use.

Units: a state enters a product in 2**-7, as x8 of -127 .. 127; a product is in the unit of what it is added
to, and a column's multiplier holds the ratio:

    product_j = (sum_k x8_k q_kj * multiplier_j + 2**23) >> 24        >> rounds down, also below 0
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunker.core import tables
from chunker.errors import ExactnessError

TABLES_DIGEST = "0d69a78acbeb1b53f08092ecdb7d8a92"
LARGEST = 127  # of x8 and of q
PRODUCT_BITS = 24  # fraction of a multiplier in products
TABLE_BITS = 17  # the same in tables: a row is the product with a one-hot x8 whose 1.0 is 128 = 2**7

Integers = NDArray[np.int32]


class Matrix:
    """An int8 matrix (K, N) with a multiplier (N,) a column."""

    def __init__(self, q: NDArray[np.int8], multiplier: NDArray[np.int32]) -> None:
        self._q = np.ascontiguousarray(q, dtype=float_type(len(q)))
        self._multiplier = multiplier.astype(np.int64)

    def __call__(self, x8: Integers) -> Integers:
        """(n, K) integers of -127 .. 127 -> (n, N)."""
        sums = product(x8.astype(self._q.dtype), self._q)
        sums *= self._multiplier
        sums += 1 << (PRODUCT_BITS - 1)
        sums >>= PRODUCT_BITS
        return sums.astype(np.int32)


def narrow(h: Integers) -> Integers:
    """States in the unit 2**-15 as they enter a product, in 2**-7: -127 .. 127."""
    x8: Integers = np.clip((h + 128) >> 8, -LARGEST, LARGEST)
    return x8


def table(q: NDArray[np.int8], multiplier: NDArray[np.int32]) -> Integers:
    """All rows (K, N) of a table."""
    rows = q.astype(np.int64) * multiplier
    rows += 1 << (TABLE_BITS - 1)
    rows >>= TABLE_BITS
    return rows.astype(np.int32)


def float_type(inner: int) -> np.dtype[Any]:
    """The floats in which sums of `inner` products of numbers of at most 127 are exact."""
    return np.dtype(np.float32 if inner * LARGEST**2 < 2**24 else np.float64)


def product(x: NDArray[Any], q: NDArray[Any]) -> NDArray[np.int64]:
    """x @ q, (n, K) @ (K, N), of integers of at most 127 held in floats of `float_type`."""
    return (x @ q).astype(np.int64) if check_machine() else integer_product(x, q)


def integer_product(x: NDArray[Any], q: NDArray[Any]) -> NDArray[np.int64]:
    """The same in plain 64-bit integers: the reference, and the fallback where `check_machine` fails."""
    return x.astype(np.int64) @ q.astype(np.int64)


@cache
def check_machine() -> bool:
    """Whether this machine's float products of integers are exact, tried on worst cases.

    Raises
    ------
    ExactnessError: the tables differ from every other machine's.
    """
    if tables.digest() != TABLES_DIGEST:
        raise ExactnessError("the tables came out different on this machine; reinstall Python and numpy")
    rng = np.random.default_rng(0)
    for rows, inner, columns in ((1, 1040, 33), (3, 515, 64), (7, 1040, 64), (64, 129, 17), (5, 1500, 9)):
        kind = float_type(inner)
        signs = LARGEST * rng.choice([-1, 1], (inner, columns))
        for x, q in (
            (rng.integers(-LARGEST, LARGEST + 1, (rows, inner)), signs),
            (np.full((rows, inner), LARGEST), np.abs(signs)),
        ):
            if not np.array_equal(x.astype(kind) @ q.astype(kind), integer_product(x, q)):
                return False
    return True
