"""What a user hands in, as a list of numpy arrays: symbols (T,) int64, or vectors (T, D) float64.

str                        its UTF-8 bytes, symbols below 256
bytes                      symbols below 256
whole numbers, one a step  symbols; as kind="vectors" one channel
real numbers, one a step   vectors of one channel
arrays (T, D)              vectors, time first
one array (n, T)           n sequences of one channel; as kind="symbols" n sequences of symbols
one array (n, T, D)        n sequences of vectors, time first

Sequences come in a list, an array, or what turns into an array (Series and frames of pandas or polars);
they are numbered by position, never by an index's labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chunker.config import MAX_SYMBOLS
from chunker.errors import UsageError
from chunker.learning.observation import Observation, observation_of

Array = npt.NDArray[Any]
KINDS = ("auto", "symbols", "vectors")
SMALLEST_DEVIATION = 1e-9
LARGEST_VALUE = float(np.finfo(np.float32).max)  # nets compute with such numbers, and their squares
LARGEST_STANDARDISED = 1e9  # deviations from the mean, of which a head may still square and add many


def as_rows(X: Any, what: str = "sequences") -> Array | list[Any]:
    """What a user hands in, by position: an array of numbers with rows as it is, all else as a list.

    Raises
    ------
    UsageError: one string, a mapping, a set, or something that can be read only once.
    """
    if isinstance(X, str | bytes | bytearray | memoryview):
        raise UsageError(f"one string is not a set of {what}; put it into a list")
    if hasattr(
        X, "__array__"
    ):  # a Series is indexed by label and a frame iterates its columns: take the values
        X = np.asarray(X)
        if X.ndim == 0:
            raise UsageError(f"{what} must come as a list or an array; put them into a list")
        return X if X.dtype.kind in "biuf" and X.ndim > 1 else list(X)
    if not hasattr(X, "__len__") or not hasattr(X, "__iter__") or isinstance(X, Mapping | AbstractSet):
        raise UsageError(f"{what} must come as a list or an array, not as {_type(X)}; put them into a list")
    return list(X)


def as_sequences(X: Any, kind: str = "auto") -> tuple[str, list[Array]]:
    """The kind, "symbols" or "vectors", and every sequence as an array.

    Raises
    ------
    UsageError: no sequences, mixed kinds or widths, values that are not finite, negative symbols.
    """
    if kind not in KINDS:
        raise UsageError(f"kind {kind!r} is not known; choose of {', '.join(KINDS)}")
    rows = as_rows(X)
    if not len(rows):
        raise UsageError("there are no sequences (Found array with 0 sample(s)); a minimum of 1 is required")
    values = [_values(row, i) for i, row in enumerate(rows)]
    found = kind
    if kind == "auto":
        plain = all(row.size == 0 or (row.ndim == 1 and row.dtype.kind in "biu") for row in values)
        found = "symbols" if plain and isinstance(rows, list) else "vectors"
    if found == "symbols":
        return found, [_symbols(row, i) for i, row in enumerate(values)]
    sequences = [_vectors(row, i, _is_text(rows[i])) for i, row in enumerate(values)]
    widths = sorted({row.shape[1] for row in sequences})
    if len(widths) > 1:
        raise UsageError(f"vectors have {widths[0]} and {widths[1]} channels; give all the same number")
    if widths[0] == 0:
        raise UsageError("0 feature(s) (channels) were found while a minimum of 1 is required")
    return found, sequences


def is_text(X: Any) -> bool:
    """Whether the sequences are strings or bytes, and not numbers."""
    return all(map(_is_text, as_rows(X)))


def is_ragged(X: Any) -> bool:
    """Whether it is one-dimensional and holds sequences: strings, bytes, or objects, not all numbers."""
    if len(X.shape) != 1:
        return False
    rows = np.asarray(X)
    return rows.dtype.kind in "US" or (
        rows.dtype.kind == "O" and any(_is_text(row) or np.ndim(row) > 0 for row in rows)
    )


def check_table(X: Any) -> None:
    """Raise UsageError if a table has text in it."""
    values = np.asarray(X)
    if values.dtype.kind in "US" or (values.dtype.kind == "O" and any(map(_is_text, values.flat))):
        raise UsageError("a table of text is not a set of sequences; give one of its columns")


def _is_text(row: Any) -> bool:
    return isinstance(row, str | bytes | bytearray)


def _type(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _values(row: Any, index: int) -> Array:
    """A sequence's numbers, of text its bytes."""
    if isinstance(row, str):
        row = row.encode("utf-8", "surrogateescape")
    if isinstance(row, bytes | bytearray):
        return np.frombuffer(bytes(row), dtype=np.uint8).astype(np.int64)
    try:
        values = np.asarray(row)
        if values.dtype.kind == "O":  # numbers in an array of objects
            values = np.asarray(values.tolist())
    except ValueError as error:
        raise UsageError(f"sequence {index} is no array ({error}); give numbers, strings or bytes") from error
    if values.ndim == 0:
        given = f"{row!r}" if row is None or isinstance(row, float) else _type(row)
        raise UsageError(f"sequence {index} is {given} and no sequence; leave it out or replace it")
    if values.size == 0:
        return values if values.dtype.kind in "biuf" else np.zeros(values.shape)
    if values.dtype.kind not in "biuf":
        kind = "other things" if values.dtype.kind == "O" else values.dtype
        raise UsageError(f"sequence {index} holds {kind} and not numbers; give numbers, strings or bytes")
    return values


def _symbols(values: Array, index: int) -> Array:
    if values.ndim != 1 or (values.dtype.kind == "f" and not (values == np.floor(values)).all()):
        raise UsageError(
            f"sequence {index} is not symbols, which are one whole number a step; give one kind only, or fit "
            "with kind='vectors'"
        )
    if values.size and not (values.min() >= 0 and values.max() < MAX_SYMBOLS):
        raise UsageError(f"sequence {index} holds symbols outside 0 to {MAX_SYMBOLS - 1}; number them anew")
    return values.astype(np.int64)


def _vectors(values: Array, index: int, text: bool) -> Array:
    if text:
        raise UsageError(f"sequence {index} is text and no vectors; give one kind only")
    values = values.astype(np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise UsageError(f"sequence {index} has {values.ndim} dimensions; give (T,) or (T, channels)")
    if not np.isfinite(values).all():
        raise UsageError(f"sequence {index} holds NaN or infinity; replace them before")
    if values.size and np.abs(values).max() > LARGEST_VALUE:
        raise UsageError(f"sequence {index} holds a number beyond {LARGEST_VALUE:.1e}; scale them before")
    return values


def read_between(row: Array, where: Array) -> Array:
    """Vectors (T, D), T at least 2, read at fractional times `where` (N,) from 0 to T - 1: (N, D)."""
    low = np.minimum(where.astype(np.int64), len(row) - 2)
    share = (where - low)[:, None]
    return np.asarray(row[low] * (1 - share) + row[low + 1] * share)


@dataclass(frozen=True)
class Preparation:
    """How raw sequences become what a stack reads; made on the training data, applied to all later ones.

    Symbols that training had not seen become the one symbol after the last. Vectors are standardised with
    the channels' mean and deviation (D,) over the training data; with `per_case` first with each sequence's
    own; with `deltas` the change since the vector two steps before follows as further channels. text: the
    symbols are bytes of strings.
    """

    kind: str
    size: int
    per_case: bool = False
    deltas: bool = False
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    text: bool = False

    @classmethod
    def learn(
        cls, kind: str, sequences: list[Array], per_case: bool, deltas: bool, text: bool = False
    ) -> Preparation:
        """From the training data."""
        if kind == "symbols":
            largest = max((int(row.max()) for row in sequences if row.size), default=0)
            return cls(kind, max(largest + 1, 2) + 1, text=text)
        channels = sequences[0].shape[1]
        plain = cls(kind, channels * (2 if deltas else 1), per_case, deltas)
        rows = np.concatenate([plain._shape(row) for row in sequences])
        if not len(rows):
            raise UsageError("all sequences are empty; give some with vectors in them")
        mean, deviation = rows.mean(0), rows.std(0)
        deviation[deviation < SMALLEST_DEVIATION] = 1.0
        return cls(plain.kind, plain.size, per_case, deltas, tuple(mean.tolist()), tuple(deviation.tolist()))

    @property
    def observation(self) -> Observation:
        """What the stack's levels predict."""
        return observation_of(self.kind, self.size)

    @property
    def channels(self) -> int:
        """Of a raw vector."""
        return self.size // 2 if self.deltas else self.size

    def apply(self, sequences: list[Array]) -> list[Array]:
        """Raw sequences as the stack reads them.

        Raises
        ------
        UsageError: vectors of another width than in training, or far beyond what was in it.
        """
        if self.kind == "symbols":
            return [np.minimum(row, self.size - 1) for row in sequences]
        for row in sequences:
            if row.shape[1] != self.channels:
                raise UsageError(
                    f"vectors of {row.shape[1]} channels, but the classifier was fitted to {self.channels}; "
                    "give the same channels"
                )
        mean, deviation = np.array(self.mean), np.array(self.deviation)
        found = [(self._shape(row) - mean) / deviation for row in sequences]
        for index, row in enumerate(found):
            if row.size and not np.abs(row).max() <= LARGEST_STANDARDISED:
                raise UsageError(
                    f"sequence {index} holds a number {LARGEST_STANDARDISED:.0e} deviations or more beyond "
                    "those of training; replace what marks a missing value, and give the same units"
                )
        return found

    def undo(self, row: Array) -> Array:
        """Standardised vectors (T, D) in the units of the raw ones; not for `per_case`."""
        if self.per_case or self.deltas:
            raise UsageError("vectors that were standardised case by case cannot be given back; leave it out")
        return np.asarray(row * np.array(self.deviation) + np.array(self.mean))

    def _shape(self, row: Array) -> Array:
        if self.per_case and len(row):
            deviation = row.std(0)
            row = (row - row.mean(0)) / np.where(deviation < SMALLEST_DEVIATION, 1.0, deviation)
        if self.deltas:
            before = row[np.maximum(np.arange(len(row)) - 2, 0)]
            row = np.concatenate([row, row - before], 1)
        return row

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preparation:
        """The inverse of `to_json`."""
        return cls(**{**fields, "mean": tuple(fields["mean"]), "deviation": tuple(fields["deviation"])})
