"""The integer twin: a trained stack that gives the same bits on every machine.

Products are exact integers (exact.py), sigmoid and tanh are tables (tables.py), everything else is one
correctly rounded float32 operation after another, element by element, in a fixed order. FORMAT.md writes
the order down. The twin of chunker.learning.stack, without gradients and without torch.

    symbols --update--> events --> levels --> logits --frequencies--> entropy coder
                 ^---------------------------------------|  the gates read the same weights
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunker.coding import exact
from chunker.coding.frequencies import Weighed, Weights, frequencies, nested, threshold, unexpected, weigh
from chunker.coding.readout import LearningReadout
from chunker.coding.tables import LOG_STEPS, SIGMOID_REACH, STEPS, TANH_REACH, sigmoid_table, tanh_table
from chunker.config import TIME_BOUNDS, StackConfig

Floats = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]

# log2(e) * 128 rounded to float32: nats to units of 1/128 bit
LOGIT_STEPS = np.float32(LOG_STEPS * 1.4426950408889634)
_TIMES = np.array(TIME_BOUNDS, dtype=np.int64)


@dataclass(frozen=True)
class Matrix:
    """A matrix of integers (K, N) held in float32, with what turns its product into table units.

    The product of activations in [-1, 1] is rint(h * activations) @ integers * scale.
    """

    integers: Floats
    scale: Floats  # (N,)
    activations: np.float32

    @classmethod
    def build(cls, quantised: NDArray[np.int8], scale: Floats, unit: np.float32) -> Matrix:
        activations = exact.activation_scale(quantised)
        return cls(
            integers=np.ascontiguousarray(quantised, dtype=np.float32),
            scale=scale * unit / np.float32(activations),
            activations=np.float32(activations),
        )

    def __call__(self, h: Floats) -> Floats:
        """(n, K) -> (n, N) float32."""
        rounded = h * self.activations
        np.rint(rounded, out=rounded)
        out = np.empty((len(h), self.integers.shape[1]), dtype=np.float32)
        exact.product(rounded, self.integers, out)
        out *= self.scale
        return out


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
        self.recurrent, self.readout = recurrent, readout
        self.readout_bias = tensors[f"{index}.readout_bias"] * LOGIT_STEPS
        self._raw_readout = tensors[f"{index}.readout.scale"], tensors[f"{index}.readout_bias"]
        if self.cell == "gru":
            self.candidate_bias: Floats = tensors[f"{index}.candidate_bias"] * unit
        self._sigmoid, self._tanh = sigmoid_table(), tanh_table()

    def learning_readout(self) -> LearningReadout:
        """A copy of the readout that learns while it codes."""
        return LearningReadout(self.readout.integers, *self._raw_readout, LOGIT_STEPS)

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
        times: NDArray[np.int64] | None,
        below: Floats | None,
    ) -> tuple[Floats, Floats | None]:
        """The new h (n, H), and the LSTM's c, after one input; times (n,) since the last one."""
        a = self.symbol_input.take(symbols, axis=0)
        if self.time_input is not None and times is not None:
            a += self.time_input.take(np.searchsorted(_TIMES, times), axis=0)
        if self.below is not None and below is not None:
            a += self.below(below)
        g = self.recurrent(h)
        if self.cell == "gru":
            return self._gru(a, g, h), None
        a += g
        if c is None:
            return _look_up(self._tanh, a), None
        return self._lstm(a, c)

    def _gru(self, a: Floats, g: Floats, h: Floats) -> Floats:
        H = self.width
        a[:, : 2 * H] += g[:, : 2 * H]
        rz = _look_up(self._sigmoid, a[:, : 2 * H])
        m = g[:, 2 * H :]
        m += self.candidate_bias
        m *= rz[:, :H]
        m += a[:, 2 * H :]
        n = _look_up(self._tanh, m)
        new = h - n
        new *= rz[:, H:]
        new += n
        return new

    def _lstm(self, a: Floats, c: Floats) -> tuple[Floats, Floats]:
        H = self.width
        gates = _look_up(self._sigmoid, a[:, : 3 * H])
        u = _look_up(self._tanh, a[:, 3 * H :])
        u *= gates[:, :H]
        new = c * gates[:, H : 2 * H]
        new += u
        squashed = _look_up(self._tanh, new * np.float32(STEPS) + np.float32(TANH_REACH * STEPS + 0.5))
        squashed *= gates[:, 2 * H :]
        return squashed, new


class IntegerStack:
    """A frozen stack for coding: made once from a model's integer tensors, shared by all sessions."""

    def __init__(self, config: StackConfig, tensors: Tensors) -> None:
        exact.check_machine()
        self.config = config
        self.symbols = config.symbols
        self.levels = tuple(IntegerLevel(config, i, tensors) for i in range(len(config.levels)))
        self.limits = [threshold(int(steps)) for steps in tensors["thresholds"]]

    def session(self, lanes: int, learn: bool = False) -> Session:
        """`lanes` independent cold states; `learn`: level 0's readout learns from what it codes."""
        return Session(self, lanes, learn)


@dataclass
class _Lanes:
    """One level's state in n lanes: h (n, H), c (n, H) or None, since (n,), fresh (n,), logits (n, V)."""

    h: Floats
    c: Floats | None
    since: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    logits: Floats


class Session:
    """The running states of one block's lanes; encoder and decoder drive it alike.

    `ticks`: (levels,) int64, the inputs each level received so far, summed over the lanes.
    """

    def __init__(self, stack: IntegerStack, lanes: int, learn: bool = False) -> None:
        self._stack = stack
        self._learner = stack.levels[0].learning_readout() if learn else None
        self._joint = stack.config.mode == "joint"
        self._states = [self._cold(level, lanes, index) for index, level in enumerate(stack.levels)]
        self._weighed: list[Weighed] = []
        self._rows: Weights | None = None
        self.ticks = np.zeros(len(stack.levels), dtype=np.int64)
        self.lanes = lanes

    def _cold(self, level: IntegerLevel, lanes: int, index: int) -> _Lanes:
        h = np.zeros((lanes, level.width), dtype=np.float32)
        return _Lanes(
            h=h,
            c=h.copy() if level.cell == "lstm" else None,
            since=np.zeros(lanes, dtype=np.int64),
            fresh=np.ones(lanes, dtype=bool),
            logits=self._read_out(level, h, index),
        )

    def _read_out(self, level: IntegerLevel, h: Floats, index: int) -> Floats:
        if self._learner is not None and index == 0:
            return self._learner(h)
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
        weighed = self._weigh()
        if self._joint or len(weighed) == 1:
            return self._plain()
        return nested(weighed, self._stack.config.gate.rule, self._stack.limits)

    def _plain(self) -> Weights:
        """The frequencies that level 0's readout answers for: the whole stack's; faithful: level 0's own."""
        if self._rows is None:
            self._rows = frequencies(self._weigh()[-1 if self._joint else 0])
        return self._rows

    def update(self, symbols: NDArray[np.integer[Any]]) -> None:
        """Read the symbols (lanes,) that came."""
        came = symbols.astype(np.intp)
        if self._learner is not None:
            self._learner.learn(self._plain(), came)
        rule, rows = self._stack.config.gate.rule, np.arange(self.lanes)
        gates = self._weigh()[:-1]
        for index, (level, state) in enumerate(zip(self._stack.levels, self._states, strict=True)):
            if index == 0:
                state.h, state.c = level.step(state.h, state.c, came, None, None)
                state.logits = self._read_out(level, state.h, 0)
                self.ticks[0] += self.lanes
                continue
            missed = unexpected(gates[index - 1], came, rule, self._stack.limits[index - 1])
            missed |= state.fresh
            rows = rows[missed[rows]]
            state.since += 1
            if len(rows):
                self._tick(index, level, state, rows, came)
        self._weighed, self._rows = [], None

    def _tick(
        self, index: int, level: IntegerLevel, state: _Lanes, rows: NDArray[np.intp], came: NDArray[np.intp]
    ) -> None:
        """Let an upper level read what the level below did not predict, in the lanes `rows`."""
        c = None if state.c is None else state.c[rows]
        below = self._states[index - 1].h[rows] if level.below is not None else None
        h, c = level.step(state.h[rows], c, came[rows], state.since[rows], below)
        state.h[rows] = h
        if state.c is not None and c is not None:
            state.c[rows] = c
        state.logits[rows] = self._read_out(level, h, index)
        state.since[rows] = 0
        state.fresh[rows] = False
        self.ticks[index] += len(rows)

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes."""
        for state in self._states:
            state.h, state.since, state.fresh = state.h[:lanes], state.since[:lanes], state.fresh[:lanes]
            state.c = None if state.c is None else state.c[:lanes]
            state.logits = state.logits[:lanes]
        if self._learner is not None:
            self._learner.keep(lanes)
        self._weighed, self._rows = [], None
        self.lanes = lanes


def time_bucket(time: int) -> int:
    """The bucket of one time >= 1, the plain reference for the vectorised look-up."""
    return bisect_left(TIME_BOUNDS, time)
