"""Histories: the inputs that each level of a stack received of a sequence; the sequence rebuilt from them.

Schmidhuber 1992, section 2: a deterministic predictor and the inputs that it did not expect, with their
times, determine the whole sequence. `compress_history` records the inputs of every level; `expand` rebuilds
the sequence from those of the top level alone, because the levels below predict the rest.

    x --level 0--> unexpected --level 1--> unexpected --> ... --> events of the top level
    x <--level 0-- expected   <--level 1-- expected   <-- ... <--'

Both run the integer model, so a history expands on any machine to the sequence that it was made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chunker.config import StackConfig
from chunker.core.levels import IntegerStack, Session
from chunker.core.tables import LOG_STEPS
from chunker.errors import UsageError

Integers = npt.NDArray[np.int64]
Symbols = bytes | Sequence[int] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Events:
    """The E inputs that one level received, in order.

    symbols: (E,). clocks: (E, max(l, 1)), when they came at level l: the index of each, from 0, among the
    inputs of levels 0, 1, .. l-1; the first column is the position in the sequence. surprises_bits: (E,)
    float64, -log2 of the probability that the level itself gave each symbol. unpredicted: (E,) bool, inputs
    whose symbol or (faithful upper levels) time it did not predict; below the top level these are the next
    level's inputs.
    """

    symbols: Integers
    clocks: Integers
    surprises_bits: npt.NDArray[np.float64]
    unpredicted: npt.NDArray[np.bool_]

    @property
    def times(self) -> Integers:
        """(E,): positions in the sequence, from 0."""
        return self.clocks[:, 0]

    def __len__(self) -> int:
        return len(self.symbols)


@dataclass(frozen=True)
class History:
    """What every level of a stack received of one sequence, lowest first."""

    levels: tuple[Events, ...]

    @property
    def length(self) -> int:
        """Number of symbols of the sequence."""
        return len(self.levels[0])

    @property
    def top(self) -> Reduced:
        """The top level's inputs: all that `expand` needs."""
        events = self.levels[-1]
        return Reduced(tuple(map(len, self.levels)), events.symbols, events.clocks)

    @property
    def rates(self) -> list[float]:
        """Share of the sequence that each level received; 0 if it is empty."""
        return [len(events) / max(self.length, 1) for events in self.levels]


@dataclass(frozen=True)
class Reduced:
    """The sequence as the top level received it.

    counts: inputs that each level received, lowest first. symbols: (E,), clocks: (E, max(l, 1)) of the top
    level's inputs, see Events.
    """

    counts: tuple[int, ...]
    symbols: Integers
    clocks: Integers


def compress_history(
    stack: IntegerStack, sequences: Sequence[Symbols], gate_of_top: float | None = None
) -> list[History]:
    """The histories of sequences of any lengths. Each starts cold and does not depend on the others.

    gate_of_top: threshold in bits. The top level has no gate above it; its inputs with a greater surprise
    count as unpredicted. Left out: those that are not its most probable symbol (rule argmax), or the
    threshold of the gate below it, or 1 bit for a single level.

    Raises
    ------
    UsageError: a symbol is not one of the stack's alphabet.
    """
    rows = [_symbols(sequence, stack.symbols) for sequence in sequences]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    if not rows:
        return []
    recorders = [_Recorder(len(stack.levels)) for _ in rows]
    lengths = np.array([len(rows[i]) for i in order])
    session = stack.session(len(rows))
    limit_bits = gate_of_top if gate_of_top is not None else _last_threshold_bits(stack)
    for t in range(int(lengths[0])):
        alive = int(np.count_nonzero(lengths > t))
        if alive < session.lanes:
            session.keep(alive)
        came = np.array([rows[i][t] for i in order[:alive]])
        surprises = session.surprises_bits(came)
        if stack.config.gate.rule == "argmax" and gate_of_top is None:
            beyond = session.expected(len(stack.levels) - 1) != came
        else:
            beyond = surprises[-1] > limit_bits
        received = session.read(came)
        for level, lanes in enumerate(received):
            if level + 1 < len(received):
                passed_on = np.zeros(alive, dtype=bool)
                passed_on[received[level + 1]] = True
            else:
                passed_on = beyond
            for lane in lanes.tolist():
                recorders[order[lane]].add(
                    level, int(came[lane]), float(surprises[level][lane]), bool(passed_on[lane])
                )
    return [recorder.history() for recorder in recorders]


class _Recorder:
    """Collects one sequence's events."""

    def __init__(self, levels: int) -> None:
        self.counts = [0] * levels
        self.rows: list[list[tuple[int, list[int], float, bool]]] = [[] for _ in range(levels)]
        self._before = [0] * levels

    def add(self, level: int, symbol: int, surprise_bits: float, unpredicted: bool) -> None:
        """A level received a symbol. Call for the lowest level first, then upwards."""
        if level == 0:
            self._before = self.counts.copy()
        clocks = self._before[: max(level, 1)]
        self.rows[level].append((symbol, clocks, surprise_bits, unpredicted))
        self.counts[level] += 1

    def history(self) -> History:
        levels = []
        for level, rows in enumerate(self.rows):
            symbols, clocks, surprises, unpredicted = zip(*rows, strict=True) if rows else ((), (), (), ())
            levels.append(
                Events(
                    np.array(symbols, dtype=np.int64),
                    np.array(clocks, dtype=np.int64).reshape(len(rows), max(level, 1)),
                    np.array(surprises, dtype=np.float64),
                    np.array(unpredicted, dtype=np.bool_),
                )
            )
        return History(tuple(levels))


def check_expandable(config: StackConfig, thresholds_steps: Sequence[int]) -> None:
    """Check that `expand` can rebuild what the levels leave out.

    thresholds_steps: per gate, in steps of 1/128 bit.

    Raises
    ------
    UsageError: a gate may leave out symbols that were not the most probable; or three levels and more, and
        the ones between do not predict times.
    """
    if config.gate.rule == "word" and len(config.levels) > 1:
        raise UsageError("the gate rule word leaves letters out, which cannot be put back; use argmax")
    worst = max(thresholds_steps, default=0) / LOG_STEPS
    if config.gate.rule != "argmax" and worst > 1:
        raise UsageError(
            f"with a gate of {worst:.2f} bits what was left out cannot be put back; use the argmax rule, "
            "or a threshold of at most 1 bit"
        )
    if len(config.levels) > 2 and not config.predicts_time(1):
        raise UsageError(
            "with three levels and more, those between must predict times, or what they left out cannot be "
            "put back; use mode faithful and the time code"
        )


def expand(stack: IntegerStack, histories: Sequence[History | Reduced]) -> list[Integers]:
    """The sequences, from the top level's events alone; the levels below predict what lies between.

    The stack must be the one that made the histories, bit for bit.

    Raises
    ------
    UsageError: the stack's gates leave out more than can be put back (check_expandable), or a history is not
        of this stack.
    """
    check_expandable(stack.config, stack.threshold_steps)
    tops = [history.top if isinstance(history, History) else history for history in histories]
    for top in tops:
        if len(top.counts) != len(stack.levels):
            raise UsageError(
                f"the history is of {len(top.counts)} levels, the stack has {len(stack.levels)}; "
                "use the stack that made it"
            )
        if len(top.symbols) != top.counts[-1] or top.clocks.shape != (
            len(top.symbols),
            max(len(top.counts) - 1, 1),
        ):
            raise UsageError("the history is not complete; use one that compress_history made")
        _symbols(top.symbols, stack.symbols)
    order = sorted(range(len(tops)), key=lambda i: -tops[i].counts[0])
    if not tops:
        return []
    session = stack.session(len(tops))
    lanes = [_Expander(tops[i], lane) for lane, i in enumerate(order)]
    results = [np.zeros(top.counts[0], dtype=np.int64) for top in tops]
    for t in range(tops[order[0]].counts[0]):
        alive = sum(lane.length > t for lane in lanes)
        if alive < session.lanes:
            session.keep(alive)
        expected = session.expected(0)
        came = np.array(
            [lane.symbol(t, int(best)) for lane, best in zip(lanes[:alive], expected, strict=True)]
        )
        received = session.read(came)
        touched: dict[int, int] = {}  # lane -> the highest level that received its symbol
        for level, members in enumerate(received):
            for member in members.tolist():
                lanes[member].counts[level] += 1
                touched[member] = level
        for member, level in touched.items():
            lanes[member].look_ahead(session, level)
        for lane, i in zip(lanes[:alive], order, strict=False):
            results[i][t] = came[lane.lane]
    for lane in lanes:
        if tuple(lane.counts) != lane.top.counts:
            raise UsageError("the history does not fit the stack; use the stack that made it")
    return results


@dataclass
class _Next:
    """The next input of a level: its symbol, and its numbers on the clocks of the levels below."""

    symbol: int
    clocks: list[int]


class _Expander:
    """One lane of `expand`: the next input of every upper level, known from the level above or predicted.

    Let n be the index of level l's next input, and m the index, among the inputs of level l, of the next
    input of level l + 1. If n = m, level l does not predict this input, and it is the one that level l + 1
    has next. Otherwise level l predicts it.
    """

    def __init__(self, top: Reduced, lane: int) -> None:
        self.top, self.lane, self.length = top, lane, top.counts[0]
        self.counts = [0] * len(top.counts)
        self._last: list[list[int]] = [[-1] * level for level in range(len(top.counts))]
        self._next: list[_Next | None] = [None] * len(top.counts)
        if len(top.symbols) and len(top.counts) > 1:
            # the first symbol goes up to every level
            first = int(top.symbols[0])
            self._next = [_Next(first, [0] * level) for level in range(len(top.counts))]
        self._single = len(top.counts) == 1

    def symbol(self, t: int, expected: int) -> int:
        """The symbol at time t, where level 0 expects `expected`."""
        if self._single:
            return int(self.top.symbols[t])
        above = self._next[1]
        return above.symbol if above is not None and above.clocks[0] == t else expected

    def look_ahead(self, session: Session, highest: int) -> None:
        """After levels 0 .. highest received an input: find the next input of levels 1 .. highest."""
        for level in range(highest, 0, -1):
            came = self._next[level]
            if came is not None:
                self._last[level] = came.clocks
            self._next[level] = self._find(session, level)

    def _find(self, session: Session, level: int) -> _Next | None:
        count = self.counts[level]
        if count >= self.top.counts[level]:
            return None
        if level + 1 == len(self.counts):
            return _Next(int(self.top.symbols[count]), self.top.clocks[count].tolist())
        above = self._next[level + 1]
        if above is not None and above.clocks[level] == count:
            return _Next(above.symbol, above.clocks[:level])
        times = session.expected_times(level, self.lane)
        clocks = [last + time for last, time in zip(self._last[level], times, strict=True)]
        return _Next(int(session.expected(level)[self.lane]), clocks)


def _last_threshold_bits(stack: IntegerStack) -> float:
    steps = stack.threshold_steps
    return steps[-1] / LOG_STEPS if steps else 1.0


def _symbols(sequence: Symbols, alphabet: int) -> Integers:
    symbols = np.frombuffer(sequence, dtype=np.uint8) if isinstance(sequence, bytes) else np.asarray(sequence)
    if symbols.ndim != 1 or (symbols.size and not np.issubdtype(symbols.dtype, np.integer)):
        raise UsageError("a sequence is bytes, or whole numbers in one row; give several as a list of them")
    if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < alphabet:
        raise UsageError(f"a symbol is not one of the stack's {alphabet}; number them from 0")
    return symbols.astype(np.int64)
