"""A lag of any length, read once, in memory that does not grow with it.

Task: chunker.data.Lag with fillers that come again after 20 symbols. Streams are read side by side, from a
moment shortly before a sequence begins until shortly after it ended; 384 of the 512 streams are for
training, the others for the test. Each recording holds one whole sequence; where it begins, the lag, and
which symbols matter are not given.

    1. level 0 is trained on the first symbols of the training streams, then frozen
    2. its integer model reads all streams once; what it does not expect is kept: a few inputs of each stream.
       The same state with the same inputs leads to the same states, bit for bit; such cycles are recognised
       by comparing inputs and are not computed again (`Reader`)
    3. level 1 is trained on what the training streams left, and asked about what the others left

Solved: at the end of the sequence in every test stream, the right one of the two keys has more than 3/4 of
what level 1 gives both. Exact: the integer model, given only the inputs that were kept and their
times, predicts all others, so that every stream is restored, symbol for symbol (`Writer`).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from chunker.config import GateRule
from chunker.core.levels import IntegerStack
from chunker.data import Lag
from chunker.experiments.baselines import SURE
from chunker.experiments.results import Row
from chunker.learning.growing import GrowConfig, grow, train_level
from chunker.learning.level import Level
from chunker.learning.stack import Stack

Integers = npt.NDArray[np.int64]
PERIOD = 20
ROWS = 512
TRAINED = 384  # of them
_LEAD = (40, 80)  # symbols before the sequence, from .. to
_AFTER = 8  # at least after it
_FIRST = 4096  # symbols of each stream that level 0 is trained on
_CHUNK = 4096
_LONGEST_ROUND = 1024
LOWER = GrowConfig(
    width=16, cell="rnn", gate=GateRule("surprise", 0.2), window=3, lanes=TRAINED, max_levels=1
)
# a window over all that is left of a stream: in shorter ones few see both ends of what they are to join
UPPER = GrowConfig(width=32, cell="gru", gate=GateRule("surprise", 0.2), restart=0.1, upper_window=16)


class _Streams:
    """ROWS cuts out of unbroken streams, each with one sequence in it that is asked for."""

    def __init__(self, task: Lag, rng: np.random.Generator) -> None:
        self.task, end = task, task.length + 1
        self.before = -(-_LEAD[1] // end)  # sequences, whole or not
        self.leads = rng.integers(*_LEAD, ROWS)
        self.keys = rng.integers(0, 2, (ROWS, self.before + 2 + _AFTER // end + _LEAD[1] // end))
        self.length = _LEAD[1] + end + _AFTER

    def part(self, start: int, stop: int) -> Integers:
        """(stop - start, ROWS) symbols."""
        return np.stack([self._row(row, start, stop) for row in range(ROWS)], 1)

    def _row(self, row: int, start: int, stop: int) -> Integers:
        end, unused = self.task.length + 1, np.random.default_rng(0)
        first = self.before * end - int(self.leads[row])  # where the stream begins, in its sequences
        parts = []
        for number, key in enumerate(self.keys[row].tolist()):
            begin = number * end
            a, b = (min(max(at + first - begin, 0), end) for at in (start, stop))
            parts.append(self.task.part(key, a, b, unused))
        return np.concatenate(parts)


@dataclass
class Left:
    """What level 0 did not expect in one stream: symbols, and their times."""

    symbols: list[int]
    times: list[int]


def streaming_lag(lag: int, seed: int) -> Row:
    """One run; see above."""
    begun = time.monotonic()
    streams = _Streams(Lag(lag, period=min(PERIOD, lag - 1)), np.random.default_rng(seed))
    first = streams.part(0, min(_FIRST, streams.length))[:, :TRAINED]
    lowest, _ = grow(first.T.ravel(), streams.task.symbols, replace(LOWER, seed=seed))
    reader = Reader(lowest.integer_stack(), ROWS, LOWER.gate.value)
    for start in range(0, streams.length, _CHUNK):
        reader.read(streams.part(start, min(start + _CHUNK, streams.length)))
    left, writer, exact = reader.left, Writer(lowest.integer_stack(), reader.left), True
    for start in range(0, streams.length, _CHUNK):
        stop = min(start + _CHUNK, streams.length)
        exact = exact and bool((writer.write(stop - start) == streams.part(start, stop)).all())
    upper = _upper_level(lowest, left[:TRAINED], seed)
    least = min(_asked(upper, events, streams, TRAINED + row) for row, events in enumerate(left[TRAINED:]))
    inputs = sum(len(events.symbols) for events in left) / ROWS
    more = {
        "lag": lag,
        "exact": exact,
        "least": round(least, 4),
        "inputs_of_level_1": round(inputs, 2),
        "symbols": streams.length * ROWS,
        "steps": reader.steps,
        "memory_mb": _peak_mb(),
    }
    return Row("history-compressor", seed, exact and least > SURE, TRAINED, time.monotonic() - begun, more)


class _Rounds:
    """Level 0 of an integer model over streams side by side, with detection of cycles of its states.

    Its states are exact, so they can be compared. Once the states of all streams equal those of P
    symbols ago, and no input since was unexpected, they repeat for as long as the inputs do.
    """

    def __init__(self, model: IntegerStack, rows: int, rounds: bool) -> None:
        self.session, self._rounds = model.session(rows), rounds
        self.time = 0
        self.steps = 0  # that were computed
        self._reference: Integers | None = None
        self._since: list[Integers] = []  # inputs since the reference was taken
        self._patience = 1  # inputs after which it is taken anew (Brent's way to find a cycle)

    def advance(self, came: Integers, unexpected: bool) -> None:
        """Let the level read one symbol of every stream."""
        self.session.update(came)
        self._since.append(came)
        if unexpected:
            self._reference, self._since, self._patience = None, [], 1
        self.time += 1
        self.steps += 1

    def round(self) -> Integers | None:
        """(P, rows) inputs of a round that has just ended where it began; None if none has."""
        if not self._rounds:
            return None
        state = self.session.hidden(0)
        if self._reference is not None and np.array_equal(state, self._reference):
            found, self._since = np.stack(self._since), []
            return found
        if self._reference is None or len(self._since) >= self._patience:
            self._reference, self._since = state, []
            self._patience = min(2 * self._patience, _LONGEST_ROUND)
        return None


class Reader:
    """Reads streams with a level's integer model, and keeps what it did not expect.

    Rounds are recognised by comparing the inputs, a chunk at a time, and the level is not run on them. The
    outcome is the same as without (`rounds=False`).
    """

    def __init__(self, model: IntegerStack, rows: int, limit_bits: float, rounds: bool = True) -> None:
        self._level, self._limit_bits = _Rounds(model, rows, rounds), limit_bits
        self.left = [Left([], []) for _ in range(rows)]

    @property
    def time(self) -> int:
        """Symbols of each stream that were read."""
        return self._level.time

    @property
    def steps(self) -> int:
        """Symbols of each stream on which the level was run."""
        return self._level.steps

    def read(self, chunk: Integers) -> None:
        """The next (T, rows) symbols."""
        at = 0
        while at < len(chunk):
            self._step(chunk[at])
            at += 1
            around = self._level.round()
            if around is not None:
                whole = len(chunk[at:]) // len(around)
                parts = chunk[at : at + whole * len(around)].reshape(whole, *around.shape)
                same = (parts == around).all((1, 2))
                skipped = (whole if same.all() else int(same.argmin())) * len(around)
                self._level.time += skipped
                at += skipped

    def _step(self, came: Integers) -> None:
        session = self._level.session
        missed = (session.expected(0) != came) | (session.surprises_bits(came)[0] > self._limit_bits)
        missed |= self.time == 0
        for row in np.flatnonzero(missed).tolist():
            self.left[row].symbols.append(int(came[row]))
            self.left[row].times.append(self.time)
        self._level.advance(came, bool(missed.any()))


class Writer:
    """The way back: streams from what a Reader kept of them."""

    def __init__(self, model: IntegerStack, left: list[Left], rounds: bool = True) -> None:
        self._level, self._rows = _Rounds(model, len(left), rounds), len(left)
        events = [
            (time, row, symbol)
            for row, kept in enumerate(left)
            for time, symbol in zip(kept.times, kept.symbols, strict=True)
        ]
        self._events = sorted(events, reverse=True)  # the next one last

    def write(self, count: int) -> Integers:
        """The next (count, rows) symbols."""
        out = np.zeros((count, self._rows), dtype=np.int64)
        at = 0
        while at < count:
            came = self._level.session.expected(0).astype(np.int64)
            known = False
            while self._events and self._events[-1][0] == self._level.time:
                _, row, symbol = self._events.pop()
                came[row], known = symbol, True
            self._level.advance(came, known)
            out[at] = came
            at += 1
            around = self._level.round()
            if around is not None:
                free = count - at
                if self._events:
                    free = min(free, self._events[-1][0] - self._level.time)
                rounds = free // len(around)
                out[at : at + rounds * len(around)] = np.tile(around, (rounds, 1))
                self._level.time += rounds * len(around)
                at += rounds * len(around)
        return out


def _upper_level(lowest: Stack, left: list[Left], seed: int) -> Level:
    """Level 1, trained on what level 0 left of the training streams; a quarter decides when to stop."""
    torch.manual_seed(seed)
    config = replace(lowest.config, levels=(lowest.config.levels[0], UPPER.width), cell=UPPER.cell)
    level = Stack(config).level(1)
    level.requires_grad_(True)
    symbols, clocks, there = _padded(left)
    held = torch.zeros_like(there)
    held[:, -len(left) // 4 :] = True
    train_level(level, 1, symbols, clocks, there & ~held, there & held, replace(UPPER, seed=seed))
    return level


def _padded(left: list[Left]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Symbols (E, B), clocks (E, B, 1) and which of them are any, (E, B) bool."""
    longest = max(len(events.symbols) for events in left)
    symbols = torch.zeros(longest, len(left), dtype=torch.int64)
    clocks, there = symbols.clone(), torch.zeros(longest, len(left), dtype=torch.bool)
    for row, events in enumerate(left):
        count = len(events.symbols)
        symbols[:count, row] = torch.tensor(events.symbols)
        clocks[:count, row] = torch.tensor(events.times)
        there[:count, row] = True
    return symbols, clocks.unsqueeze(-1), there


@torch.no_grad()
def _asked(level: Level, events: Left, streams: _Streams, row: int) -> float:
    """The right key's share of the probability that level 1 gives both keys at the end of the sequence; 0 if
    level 0 passed nothing on there."""
    end = int(streams.leads[row]) + streams.task.length
    if end not in events.times:
        return 0.0
    at = events.times.index(end)
    symbols, clocks, _ = _padded([events])
    times = torch.diff(clocks[..., 0], dim=0, prepend=torch.full((1, 1), -1))
    hs, _ = level(symbols[:at], level.start(1), times[:at])
    both = torch.softmax(level.logits(hs[-1])[0, :2], 0)
    return float(both[streams.keys[row, streams.before]])


def _peak_mb() -> float:
    """The most memory that this process had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def run(lag: int, seeds: int, report: Callable[[Row], None]) -> list[Row]:
    """Seeds 0 .. seeds - 1."""
    rows = []
    for seed in range(seeds):
        rows.append(streaming_lag(lag, seed))
        report(rows[-1])
    return rows
