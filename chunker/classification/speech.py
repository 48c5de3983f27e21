"""Speech as another speaker might have said it: cepstra whose frequencies are stretched.

Vocal tracts of other lengths scale the frequencies (Lee and Rose 1996); copies of the training data with random
factors make a classifier care less about who speaks (Jaitly and Hinton 2013).
"""

from __future__ import annotations

import numpy as np

from chunker.classification.inputs import Array
from chunker.errors import UsageError

BANDS = 128  # points of the mel scale on which a spectrum is stretched


def stretch_matrix(coefficients: int, factor: float, highest: float = 4000.0) -> Array:
    """(K, K): cepstra (T, K) @ matrix are those of a voice whose frequencies are `factor` times as high.

    coefficients: K of mel cepstra by an orthonormal cosine transform, from the zeroth. highest: Hz, upper end
    of the mel scale, half the sampling rate.

    Raises
    ------
    UsageError: a factor that is not positive.
    """
    if not (np.isfinite(factor) and factor > 0):
        raise UsageError(f"a stretch of {factor} makes no sense; choose one near 1, say 0.8 to 1.25")
    at = (np.arange(BANDS) + 0.5) / BANDS  # of the mel scale
    hertz = 700 * (10 ** (at * _mel(highest) / 2595) - 1)
    read_at = np.clip(_mel(np.minimum(hertz / factor, highest)) / _mel(highest), 0, 1)
    matrix: Array = _cosines(read_at, coefficients).T @ _cosines(at, coefficients) / BANDS
    return matrix


def as_other_speakers(
    sequences: list[Array], random: np.random.Generator, spread: float = 0.2, highest: float = 4000.0
) -> list[Array]:
    """Each of the cepstra (T, K) with a factor of its own between exp(-spread) and exp(spread)."""
    factors = np.exp(random.uniform(-spread, spread, len(sequences)))
    return [
        row @ stretch_matrix(row.shape[1], float(factor), highest)
        for row, factor in zip(sequences, factors, strict=True)
    ]


def _mel(hertz: float | Array) -> Array:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


def _cosines(at: Array, coefficients: int) -> Array:
    """(points, K)."""
    k = np.arange(coefficients)
    return np.asarray(np.cos(np.pi * np.outer(at, k)) * np.where(k == 0, 1, np.sqrt(2)))
