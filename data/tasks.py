"""Tasks of symbols: what happens at the end of a case depends on a symbol long before it.

A task draws cases. A case is a short sequence of symbols with, depending on the task, a class that is to be
known at its end, or positions whose symbol follows only from one that came long before. `stream` joins cases
to one stream without boundaries, in which a class is one more symbol to predict (Schmidhuber 1992).

Sources
-------
Schmidhuber 1992: Learning complex, extended sequences using the principle of history compression. Neural
    Computation 4(2):234-242.
Hochreiter & Schmidhuber 1997: Long short-term memory. Neural Computation 9(8):1735-1780.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from chunker.errors import UsageError

Integers = npt.NDArray[np.int64]

MAX_FILLERS = 60_000  # with a few symbols of other kinds, still an alphabet that a stack can have


@dataclass(frozen=True)
class Case:
    """One sequence.

    symbols: (n,) int64. label: the class that is to be known after the last symbol, None without classes.
    targets: (k,) int64, the positions in `symbols` whose symbol follows only from the long-lag dependency.
    """

    symbols: Integers
    label: int | None
    targets: Integers


@dataclass(frozen=True)
class Stream:
    """Cases one after the other, with nothing between them that would tell where one ends.

    symbols: (n,) int64. starts: (cases,) int64, where each case begins. targets: (k,) int64, positions in
    `symbols` to be scored, among them those of the classes. labels: (cases,) int64, empty without classes.
    """

    symbols: Integers
    starts: Integers
    targets: Integers
    labels: Integers


class Task(ABC):
    """What cases are drawn from. classes: number of supervised classes, 0 if there are none."""

    classes: ClassVar[int] = 0

    @property
    @abstractmethod
    def alphabet(self) -> tuple[str, ...]:
        """The names of the symbols; symbol i of a case is called alphabet[i]."""

    @property
    def symbols(self) -> int:
        """The size of the alphabet that a predictor of the stream needs: symbols and classes."""
        return len(self.alphabet) + self.classes

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Case:
        """One case."""


def stream(task: Task, count: int, rng: np.random.Generator) -> Stream:
    """`count` cases as one unbroken stream.

    If the task has classes, the symbol len(alphabet) + label follows each case: a supervised target is one
    more thing to predict (Schmidhuber 1992).
    """
    check_whole("the number of cases", count, 1)
    parts: list[Integers] = []
    targets: list[Integers] = []
    starts, labels, position = [], [], 0
    for _ in range(count):
        case = task.sample(rng)
        symbols, scored = case.symbols, case.targets
        if case.label is not None:
            labels.append(case.label)
            scored = np.append(scored, len(symbols))
            symbols = np.append(symbols, len(task.alphabet) + case.label)
        starts.append(position)
        parts.append(symbols)
        targets.append(scored + position)
        position += len(symbols)
    return Stream(
        symbols=np.concatenate(parts),
        starts=np.array(starts, dtype=np.int64),
        targets=np.concatenate(targets),
        labels=np.array(labels, dtype=np.int64),
    )


@dataclass(frozen=True)
class Lag20(Task):
    """The 20-step lag: a b1 .. b20 is of class 1, x b1 .. b20 of class 0, both equally likely.

    The class comes 20 steps after the only symbol that tells it (Schmidhuber 1992, first experiment).
    """

    classes: ClassVar[int] = 2

    @cached_property
    def alphabet(self) -> tuple[str, ...]:
        return ("a", "x", *(f"b{i}" for i in range(1, 21)))

    def sample(self, rng: np.random.Generator) -> Case:
        label = int(rng.integers(2))
        symbols = np.arange(1, 22, dtype=np.int64)  # from 1: its first entry is overwritten, b1 is 2
        symbols[0] = 1 - label
        return Case(symbols, label, targets=_positions())


@dataclass(frozen=True)
class Lag(Task):
    """A first symbol, x or y, that comes again `length` steps later, and fillers between the two.

    Hochreiter & Schmidhuber 1997, tasks 2a (fillers in a fixed order) and 2b (random fillers), where all
    length - 1 fillers are different symbols. Both first symbols are equally likely.

    length: steps from the first symbol to the last. period: number of different filler symbols; in a fixed
    order they are repeated cyclically, anew in each case. random: fillers are drawn, uniformly.
    """

    length: int
    period: int | None = None
    random: bool = False

    def __post_init__(self) -> None:
        check_whole("the lag", self.length, 1)
        if self.period is not None:
            check_whole("the period", self.period, 1, MAX_FILLERS)
        elif self.length - 1 > MAX_FILLERS:
            raise UsageError(f"a lag of {self.length} has too many different fillers; give a period")

    @property
    def fillers(self) -> int:
        """The number of different filler symbols."""
        return self.length - 1 if self.period is None else self.period

    @cached_property
    def alphabet(self) -> tuple[str, ...]:
        return ("x", "y", *(f"f{i}" for i in range(1, self.fillers + 1)))

    def sample(self, rng: np.random.Generator) -> Case:
        key = int(rng.integers(2))
        return Case(self.part(key, 0, self.length + 1, rng), label=None, targets=_positions(self.length))

    def chunks(self, rng: np.random.Generator, count: int, size: int) -> Iterator[tuple[Integers, Integers]]:
        """The stream of `count` cases, as `stream` gives it, but in pieces, for lags beyond all memory.

        Each piece is a new array of `size` symbols, the last may be shorter, and comes with the positions in
        it that are to be scored. What is held in memory depends on `size`, not on the lag.
        """
        check_whole("the number of cases", count, 1)
        check_whole("the size of a chunk", size, 1)
        return self._chunks(rng, count, size)

    def _chunks(self, rng: np.random.Generator, count: int, size: int) -> Iterator[tuple[Integers, Integers]]:
        parts: list[Integers] = []
        targets: list[int] = []
        filled, end = 0, self.length + 1
        for _ in range(count):
            key, done = int(rng.integers(2)), 0
            while done < end:
                stop = min(end, done + size - filled)
                parts.append(self.part(key, done, stop, rng))
                if stop == end:
                    targets.append(filled + self.length - done)
                filled, done = filled + stop - done, stop
                if filled == size:
                    yield np.concatenate(parts), _positions(*targets)
                    parts, targets, filled = [], [], 0
        if filled:
            yield np.concatenate(parts), _positions(*targets)

    def part(self, key: int, start: int, stop: int, rng: np.random.Generator) -> Integers:
        """The symbols at the positions start <= i < stop of a case."""
        positions = np.arange(start, stop, dtype=np.int64)
        filler = (positions > 0) & (positions < self.length)
        symbols = np.full(stop - start, key, dtype=np.int64)
        if self.random and self.fillers:
            # numpy draws 64-bit integers one after the other: in pieces they are the same as in one go.
            symbols[filler] = rng.integers(2, 2 + self.fillers, size=np.count_nonzero(filler))
        elif self.fillers:
            symbols[filler] = 2 + (positions[filler] - 1) % self.fillers
        return symbols


@dataclass(frozen=True)
class Automaton(Task):
    """Strings a..a b c..c d or a..a e c..c d, of class 0 or 1 by the first letter that is not a.

    Schmidhuber 1992, the experiment with strings over a to e such as abcd, aaabccccccd, aaaeccccccd. There
    are i >= 0 letters a and j >= 1 letters c. The paper does not give their distribution; here the numbers
    are geometric: each loop is gone through once more with probability 1/2. Both classes are equally likely.

    run: each letter becomes that many equal letters; 20 is the paper's hard version.
    """

    classes: ClassVar[int] = 2

    run: int = 1

    def __post_init__(self) -> None:
        check_whole("the length of a run", self.run, 1)

    @property
    def alphabet(self) -> tuple[str, ...]:
        return ("a", "b", "c", "d", "e")

    def sample(self, rng: np.random.Generator) -> Case:
        label = int(rng.integers(2))
        before, after = int(rng.geometric(0.5)) - 1, int(rng.geometric(0.5))
        letters = [0] * before + [4 if label else 1] + [2] * after + [3]
        symbols = np.repeat(np.array(letters, dtype=np.int64), self.run)
        return Case(symbols, label, targets=_positions())


@dataclass(frozen=True)
class Nested(Task):
    """Regularities within regularities, for a stack of three levels: K m1 F m2 F .. mw F K.

    K is one of two keys, x or y, drawn at random, and comes again at the end. m1 .. mw are `words` symbols
    in a fixed order. F is the run f1 .. fn of `fillers` symbols in a fixed order. Not from a paper: made so
    that history compression (Schmidhuber 1992) has one kind of regularity for each level to learn.

    level   learns                          between what and what
    0       the order of the fillers        neighbours
    1       the order of the words          `fillers` + 1 steps apart, neighbours without the fillers
    2       that the keys are equal         `words` inputs of level 1 lie between them

    The first word follows its key at once; whether a key is the first or the last of a case shows in the
    symbol before it, a key or a filler.
    """

    fillers: int = 20
    words: int = 10

    def __post_init__(self) -> None:
        check_whole("the number of fillers", self.fillers, 1, MAX_FILLERS)
        check_whole("the number of words", self.words, 1, MAX_FILLERS)
        if self.fillers + self.words > MAX_FILLERS:
            raise UsageError(
                f"{self.fillers} fillers and {self.words} words are too many symbols;"
                f" choose at most {MAX_FILLERS} together"
            )

    @cached_property
    def alphabet(self) -> tuple[str, ...]:
        words = (f"m{i}" for i in range(1, self.words + 1))
        return ("x", "y", *words, *(f"f{i}" for i in range(1, self.fillers + 1)))

    def sample(self, rng: np.random.Generator) -> Case:
        key = int(rng.integers(2))
        body = np.empty((self.words, 1 + self.fillers), dtype=np.int64)
        body[:, 0] = 2 + np.arange(self.words)
        body[:, 1:] = 2 + self.words + np.arange(self.fillers)
        symbols = np.concatenate(([key], body.ravel(), [key]))
        return Case(symbols, label=None, targets=_positions(len(symbols) - 1))


def check_whole(what: str, value: int, least: int, most: int | None = None) -> None:
    """That an argument is a whole number from `least` to `most`.

    Raises
    ------
    UsageError: it is not; `what` says which argument.
    """
    try:
        fits = not isinstance(value, bool) and index(value) >= least and (most is None or value <= most)
    except TypeError:
        fits = False
    if not fits:
        top = "up" if most is None else f"to {most}"
        raise UsageError(f"{what} cannot be {value!r}; choose a whole number from {least} {top}")


def _positions(*positions: int) -> Integers:
    return np.array(positions, dtype=np.int64)
