"""The integer model: a trained stack that gives the same bits on every machine.

    symbols --update--> events --> levels --> logits --weights--> probabilities
                 ^---------------------------------------|  the gates read the same weights

All that it computes is integers (cells.py, products.py, predictions.py). It follows
chunker.learning.stack, without gradients and without torch.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunker.config import TIME_BOUNDS, TIME_BUCKETS, StackConfig
from chunker.core.cells import IntegerLevel, Tensors
from chunker.core.ngrams import LastSymbols
from chunker.core.predictions import (
    Limit,
    UnnormalizedPmf,
    combined,
    threshold,
    unexpected,
    unnormalized_pmf,
)
from chunker.core.products import Integers, check_machine, narrow

_TIMES = np.array(TIME_BOUNDS, dtype=np.int64)


class IntegerStack:
    """A stack in integers: made once from a model's integer tensors, shared by all sessions."""

    def __init__(self, config: StackConfig, tensors: Tensors) -> None:
        check_machine()
        self.config = config
        self.symbols = config.symbols
        self.levels = tuple(IntegerLevel(config, i, tensors) for i in range(len(config.levels)))
        self.threshold_steps = [int(steps) for steps in tensors["thresholds"]]  # of 1/128 bit
        self.limits = [threshold(steps) for steps in self.threshold_steps]

    def session(self, lanes: int) -> Session:
        """`lanes` independent cold states."""
        return Session(self, lanes)


@dataclass
class _Lanes:
    """One level's state in n lanes: h (n, H), c (n, H) or None, since (n,), fresh (n,), logits (n, V).

    h8: (n, H), h as it enters products. since: symbols since its last input. fresh:
    it has had no input yet. times: of a level that predicts times and has a level above. last: the keys of
    the n-grams, of level 0 if it reads any.
    """

    h: Integers
    h8: Integers
    c: NDArray[np.int64] | None
    since: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    logits: Integers
    times: _Times | None = None
    last: LastSymbols | None = None


@dataclass
class _Times:
    """When n lanes of level l expect their next input, on the clocks of the l levels below.

    logits: (n, l, buckets). waited: (n, l) int64, inputs of each level below since the level's last input.
    remembered: (n, l, buckets) int64, the latest time seen in each bucket: the time that is predicted if the
    bucket is. 0 if there was none.
    """

    logits: Integers
    waited: NDArray[np.int64]
    remembered: NDArray[np.int64]

    def unexpected(self, rule: str, limit: Limit) -> NDArray[np.bool_]:
        """(n,): in which lanes an input at this moment, counted in `waited`, would not be expected."""
        n, clocks, buckets = self.logits.shape
        found = np.searchsorted(_TIMES, self.waited)
        pmf = unnormalized_pmf(self.logits.reshape(-1, buckets))
        wrong = unexpected(pmf, found.reshape(-1), rule, limit).reshape(n, clocks)
        wrong |= np.take_along_axis(self.remembered, found[:, :, None], 2)[:, :, 0] != self.waited
        late: NDArray[np.bool_] = np.logical_or.reduce(wrong, 1)
        return late

    def expected(self, lane: int) -> list[int]:
        """The time on each clock at which a lane expects its next input; 0 if it knows none."""
        best = self.logits[lane].argmax(1)
        return [int(known[bucket]) for known, bucket in zip(self.remembered[lane], best, strict=True)]

    def tick(self, rows: NDArray[np.intp], logits: Integers) -> None:
        """The lanes `rows` received an input; logits (len(rows), l * buckets) are those after it."""
        self.logits[rows] = logits.reshape(len(rows), *self.logits.shape[1:])
        waited = self.waited[rows]
        clocks = np.arange(waited.shape[1])
        self.remembered[rows[:, None], clocks, np.searchsorted(_TIMES, waited)] = waited
        self.waited[rows] = 0

    def keep(self, lanes: int) -> _Times:
        return _Times(self.logits[:lanes], self.waited[:lanes], self.remembered[:lanes])


class Session:
    """The running states of some lanes.

    ticks: (levels,) int64, how many inputs each level received so far, over all lanes.
    """

    def __init__(self, stack: IntegerStack, lanes: int) -> None:
        self._config, self._limits = stack.config, stack.limits
        self._joint = stack.config.mode == "joint"
        self._levels = stack.levels
        self._states = [self._cold(level, lanes, index) for index, level in enumerate(self._levels)]
        self._pmfs: list[UnnormalizedPmf] = []
        self.ticks = np.zeros(len(stack.levels), dtype=np.int64)
        self.lanes = lanes

    def _cold(self, level: IntegerLevel, lanes: int, index: int) -> _Lanes:
        h = np.zeros((lanes, level.width), dtype=np.int32)
        return _Lanes(
            h=h,
            h8=narrow(h),
            c=h.astype(np.int64) if level.cell == "lstm" else None,
            since=np.zeros(lanes, dtype=np.int64),
            fresh=np.ones(lanes, dtype=bool),
            logits=self._read_out(level, h, index),
            times=self._cold_times(level, h, index) if index + 1 < len(self._levels) else None,
            last=None if level.ngrams is None else LastSymbols(lanes, level.ngrams.config),
        )

    def _cold_times(self, level: IntegerLevel, h8: Integers, clocks: int) -> _Times | None:
        if level.time_readout is None:
            return None
        logits = level.time_readout(h8) + level.time_readout_bias
        shape = (len(h8), clocks, TIME_BUCKETS)
        return _Times(logits.reshape(shape), np.zeros(shape[:2], np.int64), np.zeros(shape, np.int64))

    def _read_out(self, level: IntegerLevel, h8: Integers, index: int) -> Integers:
        logits = level.readout(h8)
        if index == 0 or not self._joint:
            logits += level.readout_bias
        return logits

    def pmfs(self) -> list[UnnormalizedPmf]:
        """What every level predicts, held between its inputs (joint: levels 0 .. l together)."""
        if not self._pmfs:
            logits = self._states[0].logits
            self._pmfs.append(unnormalized_pmf(logits))
            for state in self._states[1:]:
                logits = logits + state.logits if self._joint else state.logits
                self._pmfs.append(unnormalized_pmf(logits))
        return self._pmfs

    def probabilities(self) -> NDArray[np.float64]:
        """(lanes, V) float64: what the whole stack gives the next symbol. No coder and no gate uses it."""
        pmfs = self.pmfs()
        if self._joint or len(pmfs) == 1:
            return pmfs[-1].weights / pmfs[-1].total
        return combined(pmfs, self._config.gate.rule, self._limits)

    def surprises_bits(self, symbols: NDArray[np.integer[Any]]) -> list[NDArray[np.float64]]:
        """Per level (lanes,) float64: -log2 of the probability that it gave the symbols (lanes,)."""
        picked = (np.take_along_axis(w.weights, symbols[:, None], 1) / w.total for w in self.pmfs())
        return [-np.log2(p[:, 0]) for p in picked]

    def expected(self, level: int) -> NDArray[np.intp]:
        """(lanes,): the most probable symbol of a level."""
        return self.pmfs()[level].best

    def expected_times(self, level: int, lane: int) -> list[int]:
        """When a level expects its next input in that lane: after how many inputs of each level below, 0 if
        it knows of none. Only for levels that predict times and have a level above."""
        times = self._states[level].times
        if times is None:
            raise TypeError(f"level {level} does not predict times")
        return times.expected(lane)

    def hidden(self, level: int) -> NDArray[np.int64]:
        """A copy of the complete recurrent state of a level: (lanes, H), for an LSTM (lanes, 2 H); the keys
        of n-grams and of the word follow, if the level reads any."""
        state = self._states[level]
        parts: list[NDArray[Any]] = [state.h] if state.c is None else [state.h, state.c]
        if state.last is not None:
            parts.append(state.last.keys.T)
        return np.concatenate(parts, 1, dtype=np.int64)

    def update(self, symbols: NDArray[np.integer[Any]]) -> None:
        """Read the symbols (lanes,) that came."""
        self.read(symbols)

    def read(self, symbols: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
        """As `update`; per level the lanes in which it received its symbol."""
        came = symbols.astype(np.intp)
        rows = self._events(came)
        for index, lanes in enumerate(rows):
            self._tick(index, lanes, came)
        self._pmfs = []
        return rows

    def _events(self, came: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Per level the lanes whose symbol it reads: all; then those in which the level below missed it."""
        rows = [np.arange(self.lanes)]
        rule = self._config.gate.rule
        for level, (pmf, limit) in enumerate(zip(self.pmfs()[:-1], self._limits, strict=True)):
            lower, upper = self._states[level : level + 2]
            missed = unexpected(pmf, came, rule, limit)
            missed |= upper.fresh
            if lower.times is not None:
                for clock, ticked in enumerate(rows[:-1]):
                    lower.times.waited[ticked, clock] += 1
                missed |= lower.times.unexpected(rule, limit)
            rows.append(rows[-1][missed[rows[-1]]])
        return rows

    def _tick(self, index: int, rows: NDArray[np.intp], came: NDArray[np.intp]) -> None:
        """Let a level read what came in the lanes `rows`."""
        level, state = self._levels[index], self._states[index]
        self.ticks[index] += len(rows)
        if index == 0:
            below = None
            if level.ngrams is not None and state.last is not None:
                below = level.ngrams(state.last.follow(came))
            state.h, state.c = level.step(state.h, state.c, came, below=below)
            state.h8 = narrow(state.h)
            state.logits = self._read_out(level, state.h8, 0)
            return
        state.since += 1
        if not len(rows):
            return
        below = self._states[index - 1].h8[rows] if level.below is not None else None
        buckets = np.searchsorted(_TIMES, state.since[rows])
        old_c = None if state.c is None else state.c[rows]
        h, c = level.step(state.h[rows], old_c, came[rows], buckets, below)
        h8 = narrow(h)
        state.h[rows], state.h8[rows] = h, h8
        if state.c is not None and c is not None:
            state.c[rows] = c
        state.logits[rows] = self._read_out(level, h8, index)
        if state.times is not None and level.time_readout is not None:
            state.times.tick(rows, level.time_readout(h8) + level.time_readout_bias)
        state.since[rows] = 0
        state.fresh[rows] = False

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes."""
        for state in self._states:
            state.h, state.h8, state.logits = state.h[:lanes], state.h8[:lanes], state.logits[:lanes]
            state.c = None if state.c is None else state.c[:lanes]
            state.since, state.fresh = state.since[:lanes], state.fresh[:lanes]
            state.times = None if state.times is None else state.times.keep(lanes)
            if state.last is not None:
                state.last.keep(lanes)
        self._pmfs = []
        self.lanes = lanes


def time_bucket(time: int) -> int:
    """The bucket of one time >= 1, the plain reference for the vectorised look-up."""
    return bisect_left(TIME_BOUNDS, time)
