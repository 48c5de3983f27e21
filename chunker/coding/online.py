"""All levels learn while they code (dynamic evaluation, Krause et al. 2018), to the same bits on every machine.

Every window of steps leaves a tape. Back-propagation along it, truncated at its beginning (Williams and Peng
1990), gives the gradient of the code length, and the weights take a step of AdaGrad down it. The readout of
level 0 learns by itself and sooner (readout.py); here are all other weights.

    window          1         2         3           4
    coded with      w         w         w + s1      w + s1 + s2      si: the step from window i's tape,
    meanwhile                 s1        s2          s3               found by one thread beside the coding

The delay of one window never changes, so a thread decides when a bit is ready and not which one. What was
predicted carries no information: a lane is propagated back only once it has gathered some surprise.

Exact like the rest: both operands of a product are integers held in float64 (states and weights as in the
forward product; errors rounded to multiples of 2**-bits and clipped), and `_grid_bits` chooses the grid such
that no sum can reach 2**53. Everything else is one float32 operation after another, element by element.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunker.coding import exact, readout
from chunker.coding.exact import Doubles, Floats, Matrix
from chunker.coding.frequencies import TOTAL, Weights
from chunker.coding.readout import LearningReadout, adagrad
from chunker.coding.tables import LOG_STEPS, STEPS, weight_table

if TYPE_CHECKING:
    from chunker.coding.twin import IntegerLevel

Rows = NDArray[np.intp]

WINDOW = readout.WINDOW  # so that level 0's readout stays the same within a tape
# times the root of the lanes: the more of them, the surer the gradient and the fewer the steps
RATE = 0.6e-3
TABLE_RATE = 4  # times that for what one symbol or time adds: its weights learn from few rows
DAMPING = np.float32(1e-3)
GATHERED = 32  # bits of surprise that a lane gathers before it is propagated back

REACH = np.float32(4)  # errors of a state are clipped to this
FACTOR = 2  # no cell makes a pre-activation's error greater than this times its state's
WIDEST = np.float32(8)  # states that nothing bounds (LSTM's c, GRU's reset candidate) count as at most this
CAP = 256  # weights stay within so many steps
_CHUNK = 32  # rows of weights at a time, for the cache


class Tick(NamedTuple):
    """What a level read at one step, in the lanes `lanes` (n,), and what its cell remembers of it (n, ...).

    buckets: of the time since the last input. below: state of the level below; level 0: the vector of its
    n-grams. h, c: the state before.
    kept: what `IntegerLevel.step` returns for this.
    """

    lanes: Rows
    symbols: Rows
    buckets: Rows | None
    below: Floats | None
    h: Floats
    c: Floats | None
    kept: tuple[Floats, ...]


class Guess(NamedTuple):
    """What was predicted in the lanes `lanes` (n,), and the symbols that came.

    frequencies: (n, V), minus one. h: (n, H) the level's states that it was predicted from.
    """

    lanes: Rows
    symbols: Rows
    frequencies: Weights
    h: Floats


@dataclass
class Tape:
    """A window: at every step each level first reads (or does not: None), then the next symbol is predicted.

    ticks, guesses: per level, per step; joint stacks: the frequencies of all levels are the same.
    coded: per step, the frequencies - 1 of the symbols that came, under the whole stack.
    """

    lanes: int
    ticks: list[list[Tick | None]]
    guesses: list[list[Guess]]
    coded: list[NDArray[np.float64]]

    @classmethod
    def empty(cls, lanes: int, levels: int) -> Tape:
        return cls(lanes, [[] for _ in range(levels)], [[] for _ in range(levels)], [])

    def surprise(self) -> NDArray[np.int64]:
        """(lanes,) in units of 1/128 bit; lanes that were dropped on the way count for less."""
        total = np.zeros(self.lanes, dtype=np.int64)
        ascending = weight_table()[::-1]
        for coded in self.coded:
            weights = (coded + 1) * (weight_table()[0] / TOTAL)
            total[: len(coded)] += len(ascending) - 1 - np.searchsorted(ascending, weights)
        return total

    def only(self, chosen: Rows) -> Tape:
        """The tape of the chosen lanes alone, numbered anew."""
        if len(chosen) == self.lanes:
            return self
        number = np.full(self.lanes, -1, dtype=np.intp)
        number[chosen] = np.arange(len(chosen))

        def pick_tick(tick: Tick | None) -> Tick | None:
            if tick is None:
                return None
            at = np.flatnonzero(number[tick.lanes] >= 0)
            if not len(at):
                return None
            return Tick(
                number[tick.lanes[at]],
                tick.symbols[at],
                None if tick.buckets is None else tick.buckets[at],
                None if tick.below is None else tick.below[at],
                tick.h[at],
                None if tick.c is None else tick.c[at],
                tuple(x[at] for x in tick.kept),
            )

        def pick_guess(guess: Guess) -> Guess:
            at = np.flatnonzero(number[guess.lanes] >= 0)
            return Guess(number[guess.lanes[at]], guess.symbols[at], guess.frequencies[at], guess.h[at])

        return Tape(
            len(chosen),
            [[pick_tick(tick) for tick in level] for level in self.ticks],
            [[pick_guess(guess) for guess in level] for level in self.guesses],
            self.coded,
        )


def _grid_bits(reach: float, others: float) -> int:
    """The most bits for which sums of |error| <= reach in steps of 2**-bits, times at most `others`, fit."""
    return 52 - int(np.frexp(reach * others)[1])


class _Errors:
    """The way back through h @ (integers * step): the steps go with the errors, the integers stay integers.

    step: (N,) of the columns. reach: bound of the errors. others: bound of any sum of what they meet.
    """

    def __init__(self, step: Floats, reach: float, others: int) -> None:
        exponent = int(np.frexp(step.max(initial=0))[1])  # 2**exponent > step
        bits = _grid_bits(reach, others)
        self._to_grid = step * np.float32(2.0 ** (bits - exponent))
        self._from_grid = 2.0 ** (exponent - bits)

    def operand(self, errors: Floats, out: Doubles) -> None:
        """The errors (n, N) of the product, times the steps, as integers."""
        rounded = errors * self._to_grid
        np.rint(rounded, out=rounded)
        out[...] = rounded

    def back(self, operand: Doubles, transposed: Doubles) -> Floats:
        """The errors (n, K) of h; `transposed`: (N, K) the integers that the tape was coded with."""
        product = exact.wide_product(operand, transposed)
        product *= self._from_grid
        return product.astype(np.float32)


class LearningMatrix(_Errors):
    """A matrix (K, N) of integers that learns: h @ integers forward, errors @ integers.T backward.

    A column that would no longer fit the mantissa forward stays as it was. rows: of a window at most.
    """

    def __init__(self, frozen: Matrix, rate: float, reach: float, rows: int) -> None:
        K, N = frozen.integers.shape
        heaviest = np.abs(frozen.integers).sum(0, dtype=np.float64).max(initial=1)
        room = exact.MANTISSA // (2 * int(heaviest))  # columns may double in weight
        activations = min(1 << max(room.bit_length() - 1, 0), 1 << exact.MAX_ACTIVATION_BITS)
        self._step = frozen.step
        super().__init__(self._step, reach, max(N * CAP, rows * activations))
        self._limit = np.float32(exact.MANTISSA // activations)
        self._weights = frozen.integers.copy()
        self._slope_unit = 1 / (self._to_grid.astype(np.float64) * activations)
        self._squares = np.zeros((K, N), dtype=np.float32)
        self._rate = np.float32(rate) / self._step
        self.matrix = Matrix.of(self._weights.copy(), self._step, frozen.unit, activations)

    def learn(self, h: Floats, operand: Doubles, symbols: int) -> Matrix:
        """Take a step; h (R, K) and its operands (R, N) over a window of so many symbols."""
        activations = h * self.matrix.activations
        np.rint(activations, out=activations)
        sums = exact.wide_product(activations.T.astype(np.float64), operand)
        unit = self._slope_unit / symbols
        integers = np.empty_like(self._weights)
        heaviest = np.zeros(len(unit))
        for start in range(0, len(sums), _CHUNK):
            part = slice(start, start + _CHUNK)
            weights, rounded = self._weights[part], integers[part]
            slope: Floats = (sums[part] * unit).astype(np.float32)
            descent = adagrad(slope, self._squares[part], DAMPING)
            descent *= self._rate
            weights -= descent
            np.clip(weights, -CAP, CAP, out=weights)
            np.rint(weights, out=rounded)
            heaviest += np.abs(rounded, out=descent).sum(0)
        full = np.flatnonzero(heaviest > self._limit)
        if len(full):
            integers[:, full] = self._weights[:, full] = self.matrix.integers[:, full]
        self.matrix = Matrix.of(integers, self._step, self.matrix.unit, self.matrix.activations)
        return self.matrix


class LearningTable:
    """Rows (M, N) of float32 that are looked up and added.

    rate: in units of their entries. reach: bound of the errors. count: of those in a window at most.
    """

    def __init__(self, rows: Floats, rate: float, reach: float, count: int) -> None:
        self._rows = rows.copy()
        self._rate = np.float32(rate)
        self._bits = _grid_bits(reach, count)
        self._squares = np.zeros_like(rows)

    def operand(self, errors: Floats) -> Doubles:
        """The errors (R, N) as integers, of which any may be summed."""
        rounded: Floats = errors * np.float32(2.0**self._bits)
        np.rint(rounded, out=rounded)
        return rounded.astype(np.float64)

    def learn(self, which: Rows, sums: Doubles, symbols: int) -> Floats:
        """The rows `which` after a step along the sums of their operands."""
        squares = self._squares[which]
        slope: Floats = (sums * (2.0**-self._bits / symbols)).astype(np.float32)
        rows: Floats = self._rows[which] - adagrad(slope, squares, DAMPING) * self._rate
        self._squares[which], self._rows[which] = squares, rows
        return rows


class _Cell(ABC):
    """A level's ticks in a tape, for the way back.

    A pre-activation's error is the state's times a factor that is known beforehand: `factors` (R, F, H) for all
    R rows at once. F blocks, in the order of the pre-activations; a GRU has the candidate's reset product as a
    fourth, and the candidate itself is put first: the columns of the recurrent product lie side by side.
    `errors`, of the same shape, are filled in from the last row to the first.
    """

    blocks = 1

    def __init__(self, ticks: list[Tick], width: int) -> None:
        self.h = np.concatenate([tick.h for tick in ticks])
        self.symbols = np.concatenate([tick.symbols for tick in ticks])
        self._kept = [np.concatenate(parts) for parts in zip(*(tick.kept for tick in ticks), strict=True)]
        self.factors = np.empty((len(self.h), self.blocks, width), dtype=np.float32)
        self._prepare(width, ticks)
        self.errors = np.empty_like(self.factors)

    @abstractmethod
    def _prepare(self, width: int, ticks: list[Tick]) -> None:
        """Fill in the factors."""

    def back(self, part: slice, dh: Floats, dc: Floats | None) -> tuple[Floats | None, Floats | None]:
        """From the errors of a tick's new state to those of the old one, but for what the product passes on."""
        np.multiply(self.factors[part], dh[:, None], out=self.errors[part])
        return None, None

    def of_recurrent(self, part: slice) -> Floats:
        """(n, N) errors of the recurrent product."""
        errors = self.errors[part]
        return errors.reshape(len(errors), -1)

    def of_inputs(self, part: slice) -> Floats:
        """(n, N) errors of what the inputs add to the pre-activations."""
        return self.of_recurrent(part)


class _Rnn(_Cell):
    def _prepare(self, width: int, ticks: list[Tick]) -> None:
        (h,) = self._kept
        self.factors[:, 0] = 1 - h * h


class _Gru(_Cell):
    blocks = 4

    def _prepare(self, width: int, ticks: list[Tick]) -> None:
        rz, n, m = self._kept
        r, z = rz[:, :width], rz[:, width:]
        candidate, reset, update, product = (self.factors[:, i] for i in range(4))
        passed = 1 - z
        np.multiply(passed, 1 - n * n, out=candidate)
        np.multiply(candidate, r, out=product)
        m = m * np.float32(1 / STEPS)
        np.clip(m, -WIDEST, WIDEST, out=m)
        m *= 1 - r
        np.multiply(product, m, out=reset)
        passed *= z
        np.multiply(passed, self.h - n, out=update)
        self._z = z

    def back(self, part: slice, dh: Floats, dc: Floats | None) -> tuple[Floats | None, Floats | None]:
        super().back(part, dh, dc)
        return dh * self._z[part], None

    def of_recurrent(self, part: slice) -> Floats:
        errors = self.errors[part, 1:]
        return errors.reshape(len(errors), -1)

    def of_inputs(self, part: slice) -> Floats:
        errors = self.errors[part]
        return np.concatenate([errors[:, 1], errors[:, 2], errors[:, 0]], axis=1)

    def of_candidate_bias(self) -> Floats:
        return self.errors[:, 3]


class _Lstm(_Cell):
    blocks = 4

    def _prepare(self, width: int, ticks: list[Tick]) -> None:
        gates, u, s = self._kept
        i, f, o = (gates[:, k * width : (k + 1) * width] for k in range(3))
        c = np.concatenate([tick.c for tick in ticks if tick.c is not None])
        np.clip(c, -WIDEST, WIDEST, out=c)
        self.factors[:, 0] = u * i * (1 - i)
        self.factors[:, 1] = c * f * (1 - f)
        self.factors[:, 2] = s * o * (1 - o)
        self.factors[:, 3] = i * (1 - u * u)
        self._f, self._c = f, o * (1 - s * s)

    def back(self, part: slice, dh: Floats, dc: Floats | None) -> tuple[Floats | None, Floats | None]:
        if dc is None:
            raise TypeError("an LSTM's state has two parts")
        dc = _clipped(dc + dh * self._c[part])
        super().back(part, dc, None)
        np.multiply(self.factors[part, 2], dh, out=self.errors[part, 2])
        return None, dc * self._f[part]


_CELLS: dict[str, Callable[[list[Tick], int], _Cell]] = {"rnn": _Rnn, "gru": _Gru, "lstm": _Lstm}


class _Weights(NamedTuple):
    """What a level's products on a tape were made with, transposed."""

    recurrent: Floats
    below: Floats | None
    readout: Floats


class _Patch(NamedTuple):
    """What a job gives to the coding thread: attributes of an IntegerLevel, and rows of its tables."""

    attributes: dict[str, Any]
    rows: dict[str, tuple[Rows, Floats]]


class _Level:
    """One level's learning weights. Once coding has begun, only the jobs touch them."""

    def __init__(
        self, coding: IntegerLevel, index: int, joint: bool, lanes: int, readout: LearningReadout
    ) -> None:
        rate, reach, rows = RATE * math.sqrt(lanes), float(REACH * FACTOR), WINDOW * lanes
        self.cell, self.width = _CELLS[coding.cell], coding.width
        self.matrices = {"recurrent": LearningMatrix(coding.recurrent, rate, reach, rows)}
        if coding.below is not None:
            self.matrices["below"] = LearningMatrix(coding.below, rate, reach, rows)
        if index:
            self.readout: _Errors = LearningMatrix(coding.readout, rate, 1, rows)
            self.matrices["readout"] = self.readout
        else:
            symbols = len(coding.readout.step)
            self.readout = _Errors(coding.readout.step, 1, symbols * readout.cap)

        def table(entries: Floats, rate: float) -> LearningTable:
            return LearningTable(entries, rate * STEPS, reach, rows)

        self.tables = {"symbol_input": table(coding.symbol_input, rate * TABLE_RATE)}
        if coding.time_input is not None:
            self.tables["time_input"] = table(coding.time_input, rate * TABLE_RATE)
        self.tables["shift"] = table(np.zeros_like(coding.symbol_input[:1]), rate)
        if coding.cell == "gru":
            self.tables["candidate_bias"] = table(coding.candidate_bias[None], rate)
        if index and not joint:
            bias = coding.readout_bias[None]
            self.tables["readout_bias"] = LearningTable(bias, rate * float(coding.readout.unit), 1, rows)

    def prepare(self, coding: IntegerLevel) -> None:
        """Let a session's copy of the level code with the learning weights."""
        for name, matrix in self.matrices.items():
            setattr(coding, name, matrix.matrix)
        coding.symbol_input = coding.symbol_input.copy()
        coding.shift = np.zeros_like(coding.symbol_input[0])
        if coding.time_input is not None:
            coding.time_input = coding.time_input.copy()


class _Pass:
    """One level's part of one pass back along a tape, from the last step to the first.

    errors: (R, V) of its predictions, p - 1[symbol].
    """

    def __init__(
        self,
        level: _Level,
        weights: _Weights,
        ticks: list[Tick],
        guesses: list[Guess],
        errors: Floats,
        lanes: int,
    ) -> None:
        self._level, self._ticks, self._errors = level, ticks, errors
        self._guesses = guesses
        self.dh = np.zeros((lanes, level.width), dtype=np.float32)
        self._dc = np.zeros_like(self.dh)
        self._predicted = np.empty(errors.shape)
        level.readout.operand(errors, self._predicted)
        self._up = level.readout.back(self._predicted, weights.readout.astype(np.float64))
        self._guess_end, self._tick_end = len(errors), sum(len(tick.lanes) for tick in ticks)
        self._below: Doubles | None = None
        if ticks:
            self._cell = level.cell(ticks, level.width)
            self._recurrent_weights = weights.recurrent.astype(np.float64)
            self._recurrent = np.empty((self._tick_end, weights.recurrent.shape[0]))
            if weights.below is not None:
                self._below_weights = weights.below.astype(np.float64)
                self._below = np.empty_like(self._recurrent)

    def predicted(self, guess: Guess) -> None:
        """Back through a prediction."""
        end, self._guess_end = self._guess_end, self._guess_end - len(guess.lanes)
        self.dh[self._where(guess.lanes)] += self._up[self._guess_end : end]

    def ticked(self, tick: Tick, through: bool) -> Floats | None:
        """Back through a tick; if `through`, the error (n, H) of the state of the level below, if it was read."""
        end, self._tick_end = self._tick_end, self._tick_end - len(tick.lanes)
        part, at = slice(self._tick_end, end), self._where(tick.lanes)
        recurrent = self._level.matrices["recurrent"]
        kept, dc = self._cell.back(part, _clipped(self.dh[at]), self._dc[at])
        recurrent.operand(self._cell.of_recurrent(part), self._recurrent[part])
        dh = recurrent.back(self._recurrent[part], self._recurrent_weights)
        if kept is not None:
            dh += kept
        self.dh[at] = dh
        if dc is not None:
            self._dc[at] = dc
        if self._below is None:
            return None
        below = self._level.matrices["below"]
        below.operand(self._cell.of_inputs(part), self._below[part])
        if not through:
            return None
        return below.back(self._below[part], self._below_weights)

    def _where(self, lanes: Rows) -> Rows | slice:
        return slice(None) if len(lanes) == len(self.dh) else lanes

    def learn(self, symbols: int) -> _Patch:
        """Take a step in all of the level's weights, over a window of so many symbols."""
        matrices, tables = self._level.matrices, self._level.tables
        patch = _Patch({}, {})
        if self._ticks:
            cell, everything = self._cell, slice(None)
            patch.attributes["recurrent"] = matrices["recurrent"].learn(cell.h, self._recurrent, symbols)
            if self._below is not None:
                below = np.concatenate([tick.below for tick in self._ticks if tick.below is not None])
                patch.attributes["below"] = matrices["below"].learn(below, self._below, symbols)
            operand = tables["symbol_input"].operand(cell.of_inputs(everything))
            self._learn_rows(patch, "symbol_input", cell.symbols, operand, symbols)
            self._learn_row(patch, "shift", operand, symbols)
            if "time_input" in tables:
                buckets = np.concatenate([tick.buckets for tick in self._ticks if tick.buckets is not None])
                self._learn_rows(patch, "time_input", buckets, operand, symbols)
            if isinstance(cell, _Gru):
                operand = tables["candidate_bias"].operand(cell.of_candidate_bias())
                self._learn_row(patch, "candidate_bias", operand, symbols)
        if "readout" in matrices:
            h = np.concatenate([guess.h for guess in self._guesses])
            patch.attributes["readout"] = matrices["readout"].learn(h, self._predicted, symbols)
        if "readout_bias" in tables:
            operand = tables["readout_bias"].operand(self._errors)
            self._learn_row(patch, "readout_bias", operand, symbols)
        return patch

    def _learn_rows(self, patch: _Patch, name: str, rows: Rows, operand: Doubles, symbols: int) -> None:
        which, at = np.unique(rows, return_inverse=True)
        hot = np.zeros((len(which), len(rows)))
        hot[at, np.arange(len(rows))] = 1
        sums = exact.wide_product(hot, operand)
        patch.rows[name] = which, self._level.tables[name].learn(which, sums, symbols)

    def _learn_row(self, patch: _Patch, name: str, operand: Doubles, symbols: int) -> None:
        sums = operand.sum(0, keepdims=True)
        first = np.zeros(1, dtype=np.intp)
        patch.attributes[name] = self._level.tables[name].learn(first, sums, symbols)[0]


def _clipped(errors: Floats) -> Floats:
    return np.clip(errors, -REACH, REACH)


def _errors(guesses: list[Guess]) -> Floats:
    """(R, V): p - 1[symbol] of all predictions, one below the other."""
    errors = np.concatenate([guess.frequencies for guess in guesses]).astype(np.float32)
    symbols = np.concatenate([guess.symbols for guess in guesses])
    errors[np.arange(len(symbols)), symbols] -= TOTAL - 1
    errors *= np.float32(1 / TOTAL)
    return errors


class Learner:
    """Lets a session's levels learn: it is told what they read and predict, and changes their weights.

    levels: the session's own copies. readout: level 0's. `close` ends the thread.
    """

    def __init__(
        self, levels: tuple[IntegerLevel, ...], joint: bool, lanes: int, readout: LearningReadout
    ) -> None:
        self._coding, self._joint, self._readout = levels, joint, readout
        self._levels = [_Level(level, index, joint, lanes, readout) for index, level in enumerate(levels)]
        for level, coding in zip(self._levels, levels, strict=True):
            level.prepare(coding)
        self._gathered = np.zeros(lanes, dtype=np.int64)
        self._windows = 0  # so many were learnt from, or not
        self._worker = worker()
        self._job: Future[list[_Patch]] | None = None
        self.keep(lanes)
        self._start()
        for ticks in self._tape.ticks:
            ticks.append(None)  # the first prediction comes before anything was read

    def _start(self) -> None:
        self._tape = Tape.empty(self._lanes, len(self._coding))
        self._weights = [
            _Weights(
                level.recurrent.integers.T,
                None if level.below is None else level.below.integers.T,
                level.readout.integers.T if index else self._readout.integers.copy(),
            )
            for index, level in enumerate(self._coding)
        ]

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes."""
        self._lanes = lanes

    def ticked(self, ticks: list[Tick | None]) -> None:
        """What each level read in this step."""
        for tape, tick in zip(self._tape.ticks, ticks, strict=True):
            tape.append(tick)

    def predicted(self, guesses: list[Guess], coded: NDArray[np.float64]) -> bool:
        """What each level predicted, and the frequencies - 1 of what came under the whole stack.

        Returns whether the levels' weights have changed.
        """
        tape = self._tape
        tape.coded.append(coded)
        for level_guesses, guess in zip(tape.guesses, guesses, strict=True):
            level_guesses.append(guess)
        if len(tape.coded) < WINDOW:
            return False
        patches = [] if self._job is None else self._job.result()
        self._job = self._worker.submit(self._learn, tape, self._weights)
        for level, patch in zip(self._coding, patches, strict=False):
            for name, value in patch.attributes.items():
                setattr(level, name, value)
            for name, (rows, values) in patch.rows.items():
                getattr(level, name)[rows] = values
        self._start()
        return bool(patches)

    def close(self) -> None:
        """End the thread; waits for the step that it is at, which takes milliseconds."""
        self._worker.shutdown(cancel_futures=True)

    def _learn(self, tape: Tape, weights: list[_Weights]) -> list[_Patch]:
        """A job: one step of all weights."""
        symbols = tape.lanes * len(tape.coded)
        gathered = self._gathered[: tape.lanes]
        gathered += tape.surprise()
        chosen = due(gathered, self._windows)
        self._windows += 1
        if not len(chosen):
            return []
        gathered[chosen] = 0
        tape = tape.only(chosen)
        passes = []
        for index, level in enumerate(self._levels):
            if not (self._joint and index):
                errors = _errors(tape.guesses[index])
            ticks = [tick for tick in tape.ticks[index] if tick is not None]
            passes.append(_Pass(level, weights[index], ticks, tape.guesses[index], errors, tape.lanes))
        for step in reversed(range(len(tape.coded))):
            for level_pass, guesses in zip(passes, tape.guesses, strict=True):
                level_pass.predicted(guesses[step])
            for index in reversed(range(len(passes))):
                tick = tape.ticks[index][step]
                below = None if tick is None else passes[index].ticked(tick, through=index > 0)
                if tick is not None and below is not None:
                    passes[index - 1].dh[tick.lanes] += below
        return [level_pass.learn(symbols) for level_pass in passes]


def due(gathered: NDArray[np.int64], window: int) -> NDArray[np.intp]:
    """Which lanes take part in the step of that window, from the surprise gathered (lanes,) in 1/128 bit.

    Measured against taking turns, which `window` is for (README, Measured B).
    """
    return np.flatnonzero(gathered >= GATHERED * LOG_STEPS)


def worker() -> Executor:
    """The one thread of a session that learns."""
    return ThreadPoolExecutor(1, "chunker-learning")
