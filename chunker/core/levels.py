"""The integer twin: a trained stack that gives the same bits on every machine.

Products are exact integers (exact.py), sigmoid and tanh are tables (tables.py), everything else is one
correctly rounded float32 operation after another, element by element, in a fixed order. FORMAT.md writes
the order down. The twin of chunker.learning.stack, without gradients and without torch.

    symbols --update--> events --> levels --> logits --frequencies--> entropy coder
                 ^---------------------------------------|  the gates read the same weights
"""

from __future__ import annotations

from bisect import bisect_left
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chunker.core import products
from chunker.core.products import Floats, Matrix
from chunker.core.predictions import Weighed, Weights, frequencies, nested, threshold, unexpected, weigh
from chunker.core.ngrams import LastSymbols, NGramTable
from chunker.codec.online import Guess, Learner, Tick
from chunker.codec.readout import LearningReadout
from chunker.core.tables import LOG_STEPS, SIGMOID_REACH, STEPS, TANH_REACH, sigmoid_table, tanh_table
from chunker.config import TIME_BOUNDS, TIME_BUCKETS, StackConfig

Learn = Literal["nothing", "readout", "all"]
Tensors = dict[str, NDArray[Any]]

# log2(e) * 128 rounded to float32: nats to units of 1/128 bit
LOGIT_STEPS = np.float32(LOG_STEPS * 1.4426950408889634)
_TIMES = np.array(TIME_BOUNDS, dtype=np.int64)


def _look_up(table: Floats, positions: Floats) -> Floats:
    """Table entries at float positions (truncated; the offset and 1/2 are added beforehand)."""
    return table.take(positions.astype(np.intp), mode="clip")


class IntegerLevel:
    """One level's exact cell; all arrays are (n, ...) for the n lanes at hand."""

    def __init__(self, config: StackConfig, index: int, tensors: Tensors) -> None:
        self.cell, self.width = config.cell, config.levels[index]
        unit = np.float32(STEPS)

        def matrix(name: str, unit: np.float32) -> Matrix | None:
            if f"{index}.{name}.q" not in tensors:
                return None
            return Matrix.build(tensors[f"{index}.{name}.q"], tensors[f"{index}.{name}.scale"], unit)

        def table(name: str) -> Floats | None:
            if f"{index}.{name}.q" not in tensors:
                return None
            rows: Floats = tensors[f"{index}.{name}.q"].astype(np.float32)
            rows *= tensors[f"{index}.{name}.scale"]
            rows *= unit
            return rows

        symbol_input, recurrent = table("symbol_input"), matrix("recurrent", unit)
        readout = matrix("readout", LOGIT_STEPS)
        if symbol_input is None or recurrent is None or readout is None:
            raise KeyError(f"level {index} lacks a tensor")
        self.symbol_input = symbol_input + (tensors[f"{index}.bias"] * unit + self._offsets())
        self.time_input, self.below = table("time_input"), matrix("below", unit)
        self.ngrams: NGramTable | None = None
        if index == 0 and config.ngrams is not None:
            self.ngrams = NGramTable(
                config.ngrams, tensors["0.ngram_table.q"], tensors["0.ngram_table.scale"]
            )
        self.recurrent, self.readout = recurrent, readout
        self.readout_bias = tensors[f"{index}.readout_bias"] * LOGIT_STEPS
        self.time_readout = matrix("time_readout", LOGIT_STEPS)
        if self.time_readout is not None:
            self.time_readout_bias: Floats = tensors[f"{index}.time_readout_bias"] * LOGIT_STEPS
        self._readout_bias_nats = tensors[f"{index}.readout_bias"]
        self.shift: Floats | None = None  # of all pre-activations; only learning brings one
        if self.cell == "gru":
            self.candidate_bias: Floats = tensors[f"{index}.candidate_bias"] * unit
        self._sigmoid, self._tanh = sigmoid_table(), tanh_table()

    def learning_readout(self) -> LearningReadout:
        """A copy of the readout that learns while it codes."""
        frozen = self.readout
        return LearningReadout(frozen.integers, frozen.step, self._readout_bias_nats, frozen.unit)

    def _offsets(self) -> Floats:
        """What is added to each pre-activation so that truncation yields its table position."""
        H = self.width
        sigmoid, tanh = SIGMOID_REACH * STEPS + 0.5, TANH_REACH * STEPS + 0.5
        blocks = {"rnn": [tanh], "gru": [sigmoid, sigmoid, tanh], "lstm": [sigmoid] * 3 + [tanh]}[self.cell]
        return np.repeat(np.array(blocks, dtype=np.float32), H)

    def step(
        self,
        h: Floats,
        c: Floats | None,
        symbols: NDArray[np.intp],
        times: NDArray[np.intp] | None,
        below: Floats | None,
    ) -> tuple[Floats, Floats | None, tuple[Floats, ...]]:
        """The new h (n, H), the LSTM's c, and what back-propagation needs, after one input.

        times: (n,) bucket of the time since the last input.
        """
        a = self.symbol_input.take(symbols, axis=0)
        if self.shift is not None:
            a += self.shift
        if self.time_input is not None and times is not None:
            a += self.time_input.take(times, axis=0)
        if self.below is not None and below is not None:
            a += self.below(below)
        g = self.recurrent(h)
        if self.cell == "gru":
            return self._gru(a, g, h)
        a += g
        if c is None:
            h = _look_up(self._tanh, a)
            return h, None, (h,)
        return self._lstm(a, c)

    def _gru(self, a: Floats, g: Floats, h: Floats) -> tuple[Floats, None, tuple[Floats, ...]]:
        H = self.width
        a[:, : 2 * H] += g[:, : 2 * H]
        rz = _look_up(self._sigmoid, a[:, : 2 * H])
        m = g[:, 2 * H :]
        m += self.candidate_bias
        candidate = m * rz[:, :H]
        candidate += a[:, 2 * H :]
        n = _look_up(self._tanh, candidate)
        new = h - n
        new *= rz[:, H:]
        new += n
        return new, None, (rz, n, m)

    def _lstm(self, a: Floats, c: Floats) -> tuple[Floats, Floats, tuple[Floats, ...]]:
        H = self.width
        gates = _look_up(self._sigmoid, a[:, : 3 * H])
        u = _look_up(self._tanh, a[:, 3 * H :])
        new = c * gates[:, H : 2 * H]
        new += u * gates[:, :H]
        squashed = _look_up(self._tanh, new * np.float32(STEPS) + np.float32(TANH_REACH * STEPS + 0.5))
        return squashed * gates[:, 2 * H :], new, (gates, u, squashed)


class IntegerStack:
    """A frozen stack for coding: made once from a model's integer tensors, shared by all sessions."""

    def __init__(self, config: StackConfig, tensors: Tensors) -> None:
        exact.check_machine()
        self.config = config
        self.symbols = config.symbols
        self.levels = tuple(IntegerLevel(config, i, tensors) for i in range(len(config.levels)))
        self.threshold_steps = [int(steps) for steps in tensors["thresholds"]]  # of 1/128 bit
        self.limits = [threshold(steps) for steps in self.threshold_steps]

    def session(self, lanes: int, learn: Learn | bool = False) -> Session:
        """`lanes` independent cold states; `learn`: what learns from what it codes (True: the readout)."""
        return Session(self, lanes, "readout" if learn is True else learn or "nothing")


@dataclass
class _Lanes:
    """One level's state in n lanes: h (n, H), c (n, H) or None, since (n,), fresh (n,), logits (n, V).

    times: what a level with a level above expects of times, if it does. last: the symbols that n-grams end
    with, if level 0 is told any.
    """

    h: Floats
    c: Floats | None
    since: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    logits: Floats
    times: _Times | None = None
    last: LastSymbols | None = None


@dataclass
class _Times:
    """When n lanes of level l expect their next input, on the clocks of the l levels below.

    logits: (n, l, buckets). waited: (n, l) int64, inputs of each level below since the last one.
    remembered: (n, l, buckets) int64, the last time in each bucket, which is the one that is expected there;
    0 if there was none.
    """

    logits: Floats
    waited: NDArray[np.int64]
    remembered: NDArray[np.int64]

    def unexpected(self, rule: str, limit: float) -> NDArray[np.bool_]:
        """(n,): in which lanes an input at this moment, counted in `waited`, would not be expected."""
        n, clocks, buckets = self.logits.shape
        found = np.searchsorted(_TIMES, self.waited)
        weighed = weigh(self.logits.reshape(-1, buckets))
        wrong = unexpected(weighed, found.reshape(-1), rule, limit).reshape(n, clocks)
        wrong |= np.take_along_axis(self.remembered, found[:, :, None], 2)[:, :, 0] != self.waited
        late: NDArray[np.bool_] = np.logical_or.reduce(wrong, 1)
        return late

    def expected(self, lane: int) -> list[int]:
        """The time on each clock at which a lane expects its next input; 0 if it knows none."""
        best = self.logits[lane].argmax(1)
        return [int(known[bucket]) for known, bucket in zip(self.remembered[lane], best, strict=True)]

    def tick(self, rows: NDArray[np.intp], logits: Floats) -> None:
        """An input came in the lanes `rows`; the logits (n, l * buckets) are made after it."""
        self.logits[rows] = logits.reshape(len(rows), *self.logits.shape[1:])
        waited = self.waited[rows]
        clocks = np.arange(waited.shape[1])
        self.remembered[rows[:, None], clocks, np.searchsorted(_TIMES, waited)] = waited
        self.waited[rows] = 0

    def keep(self, lanes: int) -> _Times:
        return _Times(self.logits[:lanes], self.waited[:lanes], self.remembered[:lanes])


class Session:
    """The running states of one block's lanes; encoder and decoder drive it alike.

    `ticks`: (levels,) int64, the inputs each level received so far, summed over the lanes.
    """

    def __init__(self, stack: IntegerStack, lanes: int, learn: Learn = "nothing") -> None:
        self._config, self._limits = stack.config, stack.limits
        self._joint = stack.config.mode == "joint"
        self._levels = stack.levels
        self._readout = None if learn == "nothing" else stack.levels[0].learning_readout()
        self._learner: Learner | None = None
        if self._readout is not None and learn == "all":
            self._levels = tuple(copy(level) for level in stack.levels)
            self._learner = Learner(self._levels, self._joint, lanes, self._readout)
        self._states = [self._cold(level, lanes, index) for index, level in enumerate(self._levels)]
        self._weighed: list[Weighed] = []
        self._plain_rows: Weights | None = None
        self._rows: Weights | None = None
        self.ticks = np.zeros(len(stack.levels), dtype=np.int64)
        self.lanes = lanes

    def close(self) -> None:
        """End the thread that learns; whoever asks a session to learn "all" has to."""
        if self._learner is not None:
            self._learner.close()

    def _cold(self, level: IntegerLevel, lanes: int, index: int) -> _Lanes:
        h = np.zeros((lanes, level.width), dtype=np.float32)
        return _Lanes(
            h=h,
            c=h.copy() if level.cell == "lstm" else None,
            since=np.zeros(lanes, dtype=np.int64),
            fresh=np.ones(lanes, dtype=bool),
            logits=self._read_out(level, h, index),
            times=self._cold_times(level, h, index) if index + 1 < len(self._levels) else None,
            last=None if level.ngrams is None else LastSymbols(lanes, level.ngrams.longest),
        )

    def _cold_times(self, level: IntegerLevel, h: Floats, clocks: int) -> _Times | None:
        if level.time_readout is None:
            return None
        logits = level.time_readout(h) + level.time_readout_bias
        shape = (len(h), clocks, TIME_BUCKETS)
        return _Times(logits.reshape(shape), np.zeros(shape[:2], np.int64), np.zeros(shape, np.int64))

    def _read_out(self, level: IntegerLevel, h: Floats, index: int) -> Floats:
        if self._readout is not None and index == 0:
            return self._readout(h)
        logits = level.readout(h)
        if index == 0 or not self._joint:
            logits += level.readout_bias
        return logits

    def _weigh(self) -> list[Weighed]:
        """The weights of every level's prediction, held between its ticks (joint: levels 0..l together)."""
        if not self._weighed:
            logits = self._states[0].logits
            self._weighed.append(weigh(logits))
            for state in self._states[1:]:
                logits = logits + state.logits if self._joint else state.logits
                self._weighed.append(weigh(logits))
        return self._weighed

    def frequencies(self) -> Weights:
        """(lanes, V) float64: integers f - 1 >= 0 whose rows sum to 2**24 - V exactly."""
        if self._rows is None:
            weighed = self._weigh()
            if self._joint or len(weighed) == 1:
                self._rows = self._plain()
            else:
                self._rows = nested(weighed, self._config.gate.rule, self._limits)
        return self._rows

    def _plain(self) -> Weights:
        """The frequencies that level 0's readout answers for: the whole stack's; faithful: level 0's own."""
        if self._plain_rows is None:
            self._plain_rows = frequencies(self._weigh()[-1 if self._joint else 0])
        return self._plain_rows

    def surprises_bits(self, symbols: NDArray[np.integer[Any]]) -> list[NDArray[np.float64]]:
        """Per level (lanes,): -log2 of the probability that it gave the symbols (lanes,); to look at."""
        picked = (np.take_along_axis(w.weights, symbols[:, None], 1) / w.total for w in self._weigh())
        return [-np.log2(p[:, 0]) for p in picked]

    def expected(self, level: int) -> NDArray[np.intp]:
        """(lanes,): the symbol that a level holds for the most probable."""
        return self._weigh()[level].best

    def expected_times(self, level: int, lane: int) -> list[int]:
        """How many inputs of each level below level `level` expects until its own next one in that lane;
        0 if it knows of none. Only of levels that predict times and have a level above."""
        times = self._states[level].times
        if times is None:
            raise TypeError(f"level {level} does not predict times")
        return times.expected(lane)

    def hidden(self, level: int) -> Floats:
        """(lanes, H), of an LSTM (lanes, 2 H), and for level 0 the keys of its n-grams, twice as many columns:
        all that a level's predictions and its way from here follow from; a copy."""
        state = self._states[level]
        parts = [state.h] if state.c is None else [state.h, state.c]
        if state.last is not None:  # in halves, which a float32 holds
            keys = state.last.keys.T
            parts += [(keys >> 16).astype(np.float32), (keys & 0xFFFF).astype(np.float32)]
        return np.concatenate(parts, 1)

    def update(self, symbols: NDArray[np.integer[Any]]) -> None:
        """Read the symbols (lanes,) that came."""
        self.read(symbols)

    def read(self, symbols: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
        """As `update`; per level the lanes in which it received its symbol."""
        came = symbols.astype(np.intp)
        if self._readout is not None:
            self._readout.learn(self._plain(), came)
        rows = self._events(came)
        if self._learner is not None:
            self._learn(self._learner, rows, came)
        ticks = [self._tick(index, lanes, came) for index, lanes in enumerate(rows)]
        if self._learner is not None:
            self._learner.ticked(ticks)
        self._weighed, self._plain_rows, self._rows = [], None, None
        return rows

    def _events(self, came: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Per level the lanes whose symbol it reads: all; then those in which the level below missed it."""
        rows = [np.arange(self.lanes)]
        rule = self._config.gate.rule
        for level, (weighed, limit) in enumerate(zip(self._weigh()[:-1], self._limits, strict=True)):
            lower, upper = self._states[level : level + 2]
            missed = unexpected(weighed, came, rule, limit)
            missed |= upper.fresh
            if lower.times is not None:
                for clock, ticked in enumerate(rows[:-1]):
                    lower.times.waited[ticked, clock] += 1
                missed |= lower.times.unexpected(rule, limit)
            rows.append(rows[-1][missed[rows[-1]]])
        return rows

    def _learn(self, learner: Learner, rows: list[NDArray[np.intp]], came: NDArray[np.intp]) -> None:
        """Tell the learner what was predicted; code on with what it has learnt."""
        every, guesses = rows[0], []
        for index, state in enumerate(self._states):
            lanes = every if self._joint else rows[index]  # faithful: a level answers for its own inputs
            if self._joint or index == 0:
                predicted = self._plain()
            else:
                predicted = frequencies(self._weigh()[index])[lanes]
            guesses.append(Guess(lanes, came[lanes], predicted, state.h[lanes] if index else state.h))
        if learner.predicted(guesses, self.frequencies()[every, came]):
            for index in range(1, len(self._levels)):
                state = self._states[index]
                state.logits = self._read_out(self._levels[index], state.h, index)

    def _tick(self, index: int, rows: NDArray[np.intp], came: NDArray[np.intp]) -> Tick | None:
        """Let a level read what came in the lanes `rows`."""
        level, state = self._levels[index], self._states[index]
        self.ticks[index] += len(rows)
        if index == 0:
            below = None
            if level.ngrams is not None and state.last is not None:
                below = level.ngrams(state.last.follow(came))
            h, c, kept = level.step(state.h, state.c, came, None, below)
            tick = Tick(rows, came, None, below, state.h, state.c, kept)
            state.h, state.c, state.logits = h, c, self._read_out(level, h, 0)
            return tick
        state.since += 1
        if not len(rows):
            return None
        below = self._states[index - 1].h[rows] if level.below is not None else None
        buckets = np.searchsorted(_TIMES, state.since[rows])
        old_h, old_c = state.h[rows], None if state.c is None else state.c[rows]
        h, c, kept = level.step(old_h, old_c, came[rows], buckets, below)
        state.h[rows] = h
        if state.c is not None and c is not None:
            state.c[rows] = c
        state.logits[rows] = self._read_out(level, h, index)
        if state.times is not None and level.time_readout is not None:
            state.times.tick(rows, level.time_readout(h) + level.time_readout_bias)
        state.since[rows] = 0
        state.fresh[rows] = False
        return Tick(rows, came[rows], buckets, below, old_h, old_c, kept)

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes."""
        for state in self._states:
            state.h, state.since, state.fresh = state.h[:lanes], state.since[:lanes], state.fresh[:lanes]
            state.c = None if state.c is None else state.c[:lanes]
            state.logits = state.logits[:lanes]
            state.times = None if state.times is None else state.times.keep(lanes)
            if state.last is not None:
                state.last.keep(lanes)
        if self._readout is not None:
            self._readout.keep(lanes)
        if self._learner is not None:
            self._learner.keep(lanes)
        self._weighed, self._plain_rows, self._rows = [], None, None
        self.lanes = lanes


def time_bucket(time: int) -> int:
    """The bucket of one time >= 1, the plain reference for the vectorised look-up."""
    return bisect_left(TIME_BOUNDS, time)
