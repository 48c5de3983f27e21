"""Speech as another speaker might have said it, into another microphone.

Vocal tracts of other lengths scale the frequencies (Lee and Rose 1996); copies of the training data with random
factors make a classifier care less about who speaks (Jaitly and Hinton 2013). Recordings differ in their noise as
well: logarithms of energies make much of what is far below the speech, so noise is added up to one distance from it.
"""

from __future__ import annotations

import numpy as np

from chunker.classification.inputs import Array
from chunker.errors import UsageError

BANDS = 128  # points of the mel scale on which a spectrum is stretched
FILTERS = 26  # of the filter bank before the cosine transform, as is usual; scales the cepstra
FLUCTUATION = 0.35  # nats, standard deviation of random noise's energies from vector to vector
TILT = 0.5  # nats, standard deviation of random noise's slope and bows over the bands


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


def spectra(
    sequences: list[Array],
    floor: float | tuple[float, float] = 3.0,
    bands: int = 24,
    random: np.random.Generator | None = None,
) -> list[Array]:
    """Cepstra (T, K) -> natural logarithms of the energies in mel bands (T, bands), less their mean over the time.

    floor: nats (1 nat: 4.3 dB) below the loudest vector; noise of that energy is added in all bands, so that what
    is softer looks alike in all recordings, however noisy they were. A pair: for training, drawn anew for each
    sequence evenly between the two, and the noise fluctuates and is no longer white.

    Raises
    ------
    UsageError: fewer than one band; a pair without `random`, or not in order.
    """
    if bands < 1:
        raise UsageError(f"{bands} bands make no spectrum; choose 24 or so")
    low, high = floor if isinstance(floor, tuple) else (floor, floor)
    drawn = isinstance(floor, tuple)
    if drawn and (random is None or not low <= high):
        raise UsageError(f"a floor drawn from {floor} needs a generator, and the lower bound first")
    found = []
    at = (np.arange(bands) + 0.5) / bands
    for row in sequences:
        energies = row @ _cosines(at, row.shape[1]).T / np.sqrt(FILTERS)
        if len(row):
            loudest = energies.mean(1).max()
            if drawn and random is not None:
                noise = loudest - random.uniform(low, high) + _colour(at, random)
                noise = noise + FLUCTUATION * random.standard_normal(energies.shape)
            else:
                noise = np.full(bands, loudest - low)
            energies = np.logaddexp(energies, noise)
            energies = energies - energies.mean(0)
        found.append(energies)
    return found


def _colour(at: Array, random: np.random.Generator) -> Array:
    """(bands,) nats by which noise differs from white: a slope and two slow bows."""
    slope, bow, wave = random.standard_normal(3) * (TILT, TILT / 2, TILT / 2)
    x = 2 * at - 1
    return np.asarray(slope * x + bow * np.cos(np.pi * x) + wave * np.sin(np.pi * x))


def _mel(hertz: float | Array) -> Array:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


def _cosines(at: Array, coefficients: int) -> Array:
    """(points, K)."""
    k = np.arange(coefficients)
    return np.asarray(np.cos(np.pi * np.outer(at, k)) * np.where(k == 0, 1, np.sqrt(2)))
