"""Bits per byte of a model alone, without contexts: of its integers (numpy), and of the float stack (torch).

A text is cut into lanes that all start cold. The integer model's figure is what its probabilities cost,
without a coder's own overhead and without a container.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from chunker.errors import CorpusError
from chunker.learning.corpus import stack_lanes

if TYPE_CHECKING:
    from chunker.models import Model

Bytes = npt.NDArray[np.uint8]
LANE_BYTES = 1 << 14  # a cold start costs some hundred bits
LANES_AT_ONCE = 256  # more would only take memory


class Session(Protocol):
    """Lanes of an integer model; `chunker.core.levels.Session` is one."""

    @property
    def ticks(self) -> npt.NDArray[np.int64]:
        """(levels,): inputs that each level received, summed over lanes."""

    def probabilities(self) -> npt.NDArray[np.float64]:
        """(lanes, V): of the next symbol."""

    def update(self, symbols: npt.NDArray[np.integer]) -> None:
        """Take in (lanes,) symbols that came."""

    def keep(self, lanes: int) -> None:
        """Go on with the first `lanes` lanes only."""


class IntegerModel(Protocol):
    """`chunker.core.levels.IntegerStack` is one."""

    def session(self, lanes: int) -> Session:
        """A new session without history."""


class FloatStack(Protocol):
    """`chunker.learning.stack.Stack` is one."""

    def score_lanes(
        self, symbols: Bytes, lengths: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Bits of each lane (N,), and the inputs that each level received (levels,)."""


@dataclass(frozen=True)
class Score:
    """What a text costs: `bits` for `bytes`, and the inputs `ticks` that each level received."""

    bytes: int
    bits: float
    ticks: tuple[int, ...]

    def __add__(self, other: Score) -> Score:
        ticks = tuple(a + b for a, b in zip(self.ticks, other.ticks, strict=True))
        return Score(self.bytes + other.bytes, self.bits + other.bits, ticks)

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.bytes

    @property
    def rates(self) -> list[float]:
        """Share of the bytes that each level received, lowest first."""
        return [ticks / self.bytes for ticks in self.ticks]


@dataclass(frozen=True)
class Evaluation:
    """A text in so many `lanes`: the score of the integer model, and of the float stack if there is one."""

    lanes: int
    integers: Score
    floats: Score | None = None

    def __add__(self, other: Evaluation) -> Evaluation:
        floats = None if self.floats is None or other.floats is None else self.floats + other.floats
        return Evaluation(self.lanes + other.lanes, self.integers + other.integers, floats)

    @property
    def loss_percent(self) -> float | None:
        """How many percent more bits the integers need than the floats."""
        return None if self.floats is None else 100 * (self.integers.bits / self.floats.bits - 1)


def evaluate(
    model: Model, text: bytes | Bytes, stack: FloatStack | None = None, lanes: int | None = None
) -> Evaluation:
    """Score a model, and the float stack it was made of if given, on a text.

    lanes: how many to cut the text into, None: lanes of LANE_BYTES.

    Raises
    ------
    CorpusError: the text is empty.
    """
    found: Evaluation | None = None
    for symbols, lengths in lanes_of(text, lanes):
        integers = score_integers(model.integer_stack(), symbols, lengths)
        floats = None if stack is None else score_floats(stack, symbols, lengths)
        one = Evaluation(len(lengths), integers, floats)
        found = one if found is None else found + one
    if found is None:
        raise CorpusError("the text is empty; give some with something in it")
    return found


def lanes_of(text: bytes | Bytes, lanes: int | None = None) -> Iterator[tuple[Bytes, npt.NDArray[np.int64]]]:
    """A text as lanes of about equal length: symbols (T, N), lengths (N,), at most LANES_AT_ONCE at a time.

    lanes: how many in all, None: so many that each has at most LANE_BYTES.
    """
    whole = np.frombuffer(text, dtype=np.uint8) if isinstance(text, bytes) else text
    if not len(whole):
        return
    count = min(lanes, len(whole)) if lanes is not None else -(-len(whole) // LANE_BYTES)
    pieces = sorted(np.array_split(whole, count), key=len, reverse=True)
    for start in range(0, len(pieces), LANES_AT_ONCE):
        yield stack_lanes(pieces[start : start + LANES_AT_ONCE])


def score_integers(model: IntegerModel, symbols: Bytes, lengths: npt.NDArray[np.int64]) -> Score:
    """Cost of lanes (T, N) under an integer model: -log2 p of every symbol.

    Only the first lengths[n] symbols of lane n count; the longest lanes come first.
    """
    session = model.session(len(lengths))
    bits, alive = 0.0, len(lengths)
    for t, row in enumerate(symbols):
        left = int(np.count_nonzero(lengths > t))
        if left < alive:
            session.keep(left)
            alive = left
        bits -= float(np.log2(session.probabilities()[np.arange(alive), row[:alive]]).sum())
        session.update(row[:alive])
    return Score(int(lengths.sum()), bits, tuple(map(int, session.ticks)))


def score_floats(stack: FloatStack, symbols: Bytes, lengths: npt.NDArray[np.int64]) -> Score:
    """Cost of lanes (T, N) under a float stack; lengths as for `score_integers`."""
    bits, ticks = stack.score_lanes(symbols, lengths)
    return Score(int(lengths.sum()), float(bits.sum()), tuple(map(int, ticks)))
