"""What a user hands in, as a list of numpy arrays: symbols (T,) int64, or vectors (T, D) float64.

str                        its UTF-8 bytes, symbols below 256
bytes                      symbols below 256
whole numbers, one a step  symbols; as kind="vectors" one channel
real numbers, one a step   vectors of one channel
arrays (T, D)              vectors, time first
one array (n, T)           n sequences of one channel; as kind="symbols" n sequences of symbols
one array (n, T, D)        n sequences of vectors, time first
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chunker.config import MAX_SYMBOLS
from chunker.errors import UsageError
from chunker.learning.observation import Observation, observation_of

Array = npt.NDArray[Any]
BYTES = 256
SMALLEST_DEVIATION = 1e-9


def as_sequences(X: Any, kind: str = "auto") -> tuple[str, list[Array]]:
    """The kind, "symbols" or "vectors", and every sequence as an array.

    Raises
    ------
    UsageError: no sequences, mixed kinds or widths, values that are not finite, negative symbols.
    """
    if kind not in ("auto", "symbols", "vectors"):
        raise UsageError(f"kind {kind!r} is not known; choose auto, symbols or vectors")
    if isinstance(X, str | bytes | bytearray):
        raise UsageError("one string is not a set of sequences; put it into a list")
    if isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and X.ndim in (2, 3):
        found = "symbols" if kind == "symbols" and X.ndim == 2 else "vectors"
    else:
        try:
            X = list(X)
        except TypeError as error:
            raise UsageError("sequences must come as a list or an array; put them into a list") from error
        found = kind
        if kind == "auto":
            found = _kind_of(X)
    rows: Sequence[Any] = list(X)
    if not rows:
        raise UsageError("there are no sequences (Found array with 0 sample(s)); a minimum of 1 is required")
    sequences = [_symbols(row, i) if found == "symbols" else _vectors(row, i) for i, row in enumerate(rows)]
    if found == "vectors":
        widths = sorted({row.shape[1] for row in sequences})
        if len(widths) > 1:
            raise UsageError(f"vectors have {widths[0]} and {widths[1]} channels; give all the same number")
        if widths[0] == 0:
            raise UsageError("0 feature(s) (channels) were found while a minimum of 1 is required")
    return found, sequences


def is_text(X: Any) -> bool:
    """Whether the sequences are strings or bytes, and not numbers."""
    return all(isinstance(row, str | bytes | bytearray) for row in X)


def _kind_of(rows: Sequence[Any]) -> str:
    """Symbols if every row that has anything in it is text, bytes, or one whole number a step."""
    for row in rows:
        if isinstance(row, str | bytes | bytearray):
            continue
        values = _array(row)
        if values.size and (values.ndim != 1 or values.dtype.kind not in "biu"):
            return "vectors"
    return "symbols"


def _array(row: Any) -> Array:
    try:
        values = np.asarray(row)
    except ValueError as error:
        raise UsageError(f"a sequence is no array ({error}); give numbers, strings or bytes") from error
    if values.dtype.kind not in "biuf":
        if values.size == 0:
            return np.zeros(values.shape)
        raise UsageError(f"a sequence holds {values.dtype} and not numbers; give numbers, strings or bytes")
    return values


def _symbols(row: Any, index: int) -> Array:
    if isinstance(row, str):
        row = row.encode("utf-8", "surrogateescape")
    if isinstance(row, bytes | bytearray):
        return np.frombuffer(bytes(row), dtype=np.uint8).astype(np.int64)
    values = _array(row)
    whole = values.astype(np.int64)
    if values.ndim != 1 or (values.dtype.kind == "f" and not np.array_equal(values, whole)):
        raise UsageError(f"sequence {index} is not one whole number a step; use kind='vectors'")
    if whole.size and (whole.min() < 0 or whole.max() >= MAX_SYMBOLS):
        raise UsageError(f"sequence {index} holds symbols outside 0 to {MAX_SYMBOLS - 1}; number them anew")
    return whole


def _vectors(row: Any, index: int) -> Array:
    if isinstance(row, str | bytes | bytearray):
        raise UsageError(f"sequence {index} is text among vectors; give one kind only")
    values = _array(row).astype(np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise UsageError(f"sequence {index} has {values.ndim} dimensions; give (T,) or (T, channels)")
    if not np.isfinite(values).all():
        raise UsageError(f"sequence {index} holds NaN or infinity; replace them before")
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
    own; with `deltas` the change since the vector two steps before follows as further channels. text: the symbols
    are bytes of strings.
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
        UsageError: vectors of another width than in training.
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
        return [(self._shape(row) - mean) / deviation for row in sequences]

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
        return {
            "kind": self.kind,
            "size": self.size,
            "per_case": self.per_case,
            "deltas": self.deltas,
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "text": self.text,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preparation:
        """The inverse of `to_json`."""
        return cls(
            kind=str(fields["kind"]),
            size=int(fields["size"]),
            per_case=bool(fields["per_case"]),
            deltas=bool(fields["deltas"]),
            mean=tuple(float(value) for value in fields["mean"]),
            deviation=tuple(float(value) for value in fields["deviation"]),
            text=bool(fields.get("text", False)),
        )
