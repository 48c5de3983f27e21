"""Speech as another speaker might have said it, into another microphone.

Vocal tracts of other lengths scale the frequencies (Lee and Rose 1996); copies of the training data with
random factors make a classifier care less about who speaks (Jaitly and Hinton 2013). Recordings differ in
their noise as well: logarithms of energies make much of what is far below the speech, so noise is added up
to one distance from it.

Cepstra are vectors (T, K), time first, from the zeroth on: the orthonormal cosine transform of the natural
logarithms of the energies in 26 mel bands from 0 to half the sampling rate.
"""

from __future__ import annotations

import numpy as np

from chunker.classification.inputs import Array, read_between
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
    at = _centres(BANDS)
    read_at = _stretched(at, factor, highest)
    matrix: Array = _cosines(read_at, coefficients).T @ _cosines(at, coefficients) / BANDS
    return matrix


def as_other_speakers(
    sequences: list[Array], random: np.random.Generator, spread: float = 0.2, highest: float = 4000.0
) -> list[Array]:
    """Each of the cepstra (T, K) with a factor of its own between exp(-spread) and exp(spread)."""
    factors = np.exp(random.uniform(-spread, spread, len(sequences)))
    return [
        row @ stretch_matrix(row.shape[1], float(factor), highest)
        for row, factor in zip(_cepstra(sequences), factors, strict=True)
    ]


def spectra(sequences: list[Array], floor: float = 3.0, bands: int = 24) -> list[Array]:
    """Cepstra (T, K) -> logarithms of the energies in mel bands (T, bands), in nats, less their mean.

    floor: nats (1 nat: 4.3 dB) below the loudest vector; noise of that energy is added in all bands, so
    that what is softer looks alike in all recordings, however noisy they were.

    Raises
    ------
    UsageError: fewer than one band; something else than a list of cepstra.
    """
    at = _centres(bands)
    found = []
    for row in _cepstra(sequences):
        energies = _energies(row, at)
        found.append(_above(energies, np.full(bands, _loudest(energies) - floor)))
    return found


def spectra_of_others(
    sequences: list[Array],
    random: np.random.Generator,
    floor: tuple[float, float] = (2.0, 9.0),
    spread: float = 0.2,
    pace: float = 0.25,
    bands: int = 24,
    highest: float = 4000.0,
) -> list[Array]:
    """As `spectra`, for training: each of the cepstra as of another speaker, at another pace, in other noise.

    floor: nats, drawn evenly between the two for each sequence; the noise fluctuates and is not white.
    spread: of the frequencies' factor, as in `as_other_speakers`. pace: logarithm of the largest change of
    the length; within a sequence the pace changes too. highest: Hz, as in `stretch_matrix`.

    Raises
    ------
    UsageError: as `spectra`; a floor whose lower bound is not the first.
    """
    if not floor[0] <= floor[1]:
        raise UsageError(f"a floor between {floor[0]} and {floor[1]} is none; give the lower bound first")
    at = _centres(bands)
    found = []
    for row in _cepstra(sequences):
        energies = _energies(row, _stretched(at, float(np.exp(random.uniform(-spread, spread))), highest))
        energies = _paced(energies, pace, random)
        noise = _loudest(energies) - random.uniform(*floor) + _colour(at, random)
        found.append(_above(energies, noise + FLUCTUATION * random.standard_normal(energies.shape)))
    return found


def _cepstra(sequences: list[Array]) -> list[Array]:
    """Checked: a list of (T, K), K at least 1, finite."""
    found = [np.asarray(row) for row in sequences]
    for i, row in enumerate(found):
        if row.ndim != 2 or not row.shape[1] or row.dtype.kind not in "iuf" or not np.isfinite(row).all():
            raise UsageError(f"case {i} is no array (T, K) of finite cepstra; give a list of such arrays")
    return found


def _centres(bands: int) -> Array:
    """(bands,) where on the mel scale, from 0 to 1."""
    if bands < 1:
        raise UsageError(f"{bands} bands make no spectrum; choose 24 or so")
    return np.asarray((np.arange(bands) + 0.5) / bands)


def _energies(row: Array, at: Array) -> Array:
    """(T, bands) nats."""
    return np.asarray(row @ _cosines(at, row.shape[1]).T / np.sqrt(FILTERS))


def _loudest(energies: Array) -> float:
    return float(energies.mean(1).max(initial=-np.inf))


def _above(energies: Array, noise: Array) -> Array:
    energies = np.logaddexp(energies, noise)
    return np.asarray(energies - energies.mean(0)) if len(energies) else energies


def _paced(energies: Array, pace: float, random: np.random.Generator) -> Array:
    """Another number of vectors, read at times that bend."""
    T = len(energies)
    if T < 2:
        return energies
    x = np.linspace(0, 1, max(round(T * float(np.exp(random.uniform(-pace, pace)))), min(T, 8)))
    bow, wave = random.uniform(-pace, pace, 2) / (3, 6)
    where = np.clip(x + bow * np.sin(np.pi * x) + wave * np.sin(2 * np.pi * x), 0, 1) * (T - 1)
    return read_between(energies, where)


def _colour(at: Array, random: np.random.Generator) -> Array:
    """(bands,) nats by which noise differs from white: a slope and two slow bows."""
    slope, bow, wave = random.standard_normal(3) * (TILT, TILT / 2, TILT / 2)
    x = 2 * at - 1
    return np.asarray(slope * x + bow * np.cos(np.pi * x) + wave * np.sin(np.pi * x))


def _stretched(at: Array, factor: float, highest: float) -> Array:
    """Where a voice whose frequencies are `factor` times as high has been, in bands at these places."""
    hertz = 700 * (10 ** (at * _mel(highest) / 2595) - 1)
    return np.asarray(np.clip(_mel(np.minimum(hertz / factor, highest)) / _mel(highest), 0, 1))


def _mel(hertz: float | Array) -> Array:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


def _cosines(at: Array, coefficients: int) -> Array:
    """(points, K)."""
    k = np.arange(coefficients)
    return np.asarray(np.cos(np.pi * np.outer(at, k)) * np.where(k == 0, 1, np.sqrt(2)))
