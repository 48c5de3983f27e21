"""The recurrent levels of a block: when they wake, what they take in, what they say.
FORMAT.md, "Recurrent levels".

Level 1 sleeps while the contexts are sure. Where it wakes it takes in the last bytes that passed and predicts
the next one; a byte that it predicted goes up to the next level only if it did not expect it (Schmidhuber
1992, section 3: what was predicted tells nothing new), and so on.
The cells are those of chunker.core.cells, with one lane.
"""

from __future__ import annotations

import numpy as np

from chunker.config import NO_GUESS
from chunker.core.cells import IntegerLevel
from chunker.core.interface import Model, check_stack
from chunker.core.levels import time_bucket
from chunker.core.ngrams import LastSymbols
from chunker.core.predictions import UnnormalizedPmf, unexpected, unnormalized_pmf
from chunker.core.products import Integers, narrow
from chunker.core.reference.level0 import Advice
from chunker.core.reference.tables import STRETCH_LIMIT, clamp, log2

LN2 = 2839  # of 2**-12, within 1e-5


class Level:
    """The state of one level: h (1, H), an LSTM's c (1, H), and logits (1, 256), its part of the prediction.

    since: how many bytes level 1 predicted since this level's last input. fresh: it has had none yet.
    pending: the byte that it takes in when level 1 wakes, None if there is none.
    """

    def __init__(self, level: IntegerLevel, index: int) -> None:
        self.weights, self._index = level, index
        self.h: Integers = np.zeros((1, level.width), dtype=np.int32)
        self.c = np.zeros((1, level.width), dtype=np.int64) if level.cell == "lstm" else None
        self.logits = self._read_out()
        self.since = 0
        self.fresh = True
        self.pending: int | None = None

    def step(
        self, byte: int, time: int, below: Integers | None, guess: int = NO_GUESS, confidence: int = 0
    ) -> None:
        """Take in a byte, `time` after the last one. below: (1, K), -127 .. 127."""
        told = time_bucket(time), below, np.array([guess]), np.array([confidence])
        self.h, self.c = self.weights.step(self.h, self.c, np.array([byte]), *told)
        self.logits = self._read_out()

    def _read_out(self) -> Integers:
        logits = self.weights.readout(narrow(self.h))
        return logits + self.weights.readout_bias if self._index == 0 else logits


class Stack:
    """All levels, from a model that codes bytes."""

    def __init__(self, model: Model, content: bytearray) -> None:
        """content: the block so far; it grows.

        Raises
        ------
        UsageError: the codec cannot use such a stack. NotAModel: its weights are beyond what integers hold.
        """
        check_stack(model.config)
        stack = model.integer_stack()
        self._content = content
        self._rule, self._limits = model.config.gate.rule, stack.limits
        self._catch_up = model.config.wake.catch_up if model.config.wake else 0
        self._ngrams = stack.levels[0].ngrams
        self._last = None if self._ngrams is None else LastSymbols(1, self._ngrams.config)
        self._levels = [Level(level, index) for index, level in enumerate(stack.levels)]
        self._read_to = 0  # bytes that level 1 has taken in or slept through
        self._pmfs: list[UnnormalizedPmf] = []  # what levels 1 .. l predict together, for every l

    @property
    def weights(self) -> list[object]:
        """What is the same for all blocks."""
        return [self._ngrams, *(level.weights for level in self._levels)]

    def wake(self, guess: int, confidence: int) -> int:
        """Take in what passed, and predict the next byte. Returns how many levels moved, at least 1.

        guess, confidence: see `Level0.guess`.
        """
        position, moved = len(self._content), 1
        if position > self._read_to:
            passed = position - self._read_to
            caught_up = min(passed - 1, self._catch_up)
            for k in range(caught_up, 0, -1):
                self._step_first(position - k, 1, NO_GUESS, 0)
            self._step_first(position, 1 if caught_up else passed, guess, confidence)
            moved += self._step_upper()
        self._pmfs = []
        logits: Integers = np.zeros((1, 256), dtype=np.int32)
        for level in self._levels:
            logits = logits + level.logits
            self._pmfs.append(unnormalized_pmf(logits))
        return moved

    def _step_first(self, position: int, time: int, guess: int, confidence: int) -> None:
        """Level 1 takes in the byte before `position`."""
        below = None
        if self._ngrams is not None and self._last is not None:
            for byte in self._content[self._read_to : position]:
                self._last.follow(np.array([byte]))
            below = self._ngrams(self._last.keys)
        self._levels[0].step(self._content[position - 1], time, below, guess, confidence)
        self._read_to = position

    def _step_upper(self) -> int:
        """The levels above take in the bytes that wait for them, up to one for which none does.
        Returns how many."""
        for index, level in enumerate(self._levels[1:], 1):
            if level.pending is None:
                return index - 1
            level.step(level.pending, level.since, narrow(self._levels[index - 1].h))
            level.since, level.fresh, level.pending = 0, False, None
        return len(self._levels) - 1

    def advise(self, partial: int, bit_number: int) -> Advice:
        """What the prediction says of the bit behind those of `partial`: the weights of all bytes that go on
        so."""
        pmf = self._pmfs[-1]
        half = 1 << (7 - bit_number)
        first = 2 * half * partial - 256  # of the bytes that begin like this
        zero = int(pmf.weights[0, first : first + half].sum())
        one = int(pmf.weights[0, first + half : first + 2 * half].sum())
        odds = ((log2(one) - log2(zero)) * LN2 + (1 << 15)) >> 16
        return Advice(
            awake=True,
            stretched=clamp(odds, STRETCH_LIMIT),
            linear=(one << 10) // (one + zero) - 512,
            likeliest=int(pmf.best[0]),
        )

    def __len__(self) -> int:
        """How many levels."""
        return len(self._levels)

    def costs(self, byte: int) -> list[int]:
        """What levels 1 .. l alone take for a byte, for each l, in 1/4096 bit."""
        return [log2(int(pmf.total[0, 0])) - log2(int(pmf.weights[0, byte])) for pmf in self._pmfs]

    def saw(self, byte: int) -> None:
        """The byte came that was predicted: the gates decide how far up it goes."""
        for level in self._levels[1:]:
            level.since += 1
        came = np.array([byte])
        for level, pmf, limit in zip(self._levels[1:], self._pmfs, self._limits, strict=False):
            if not unexpected(pmf, came, self._rule, limit)[0] and not level.fresh:
                return
            level.pending = byte
