"""The faithful stack over symbols or vectors: level l+1 ticks only on what level l did not predict.

    paper (Schmidhuber 1992)             here
    predictor P_s                        HistoryLevel s
    "unexpected input"                   event: an input whose surprise under its level passes the gate
    unique representation of the time    time since the level's last input, log-scaled code

Rows of a batch never meet: a row's events depend on that row alone. Trained levels hold float64, so that the
rounding of a product, which depends on the number of rows, does not decide what is an event.

Letters: T inputs, E ticks, B rows, D channels, H hidden units, V symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chunker.classification.inputs import Array
from chunker.classification.medium import HistoryGate, Medium
from chunker.config import CELLS, GATES_PER_CELL, TIME_BOUNDS, TIME_BUCKETS
from chunker.errors import UsageError
from chunker.learning.recurrence import recur

WINDOW = 512  # inputs that are read in one go; longer sequences are carried from window to window
BATCH_INPUTS = 2**16  # at most in a window of all rows together


class HistoryLevel(nn.Module):
    """One recurrent predictor of its own next input.

    width: H. cell: "rnn", "gru" or "lstm". timed: told the time since its last input (all but the lowest).
    A vector is predicted as the last input times `persistence` (D,) plus what the state adds.
    """

    def __init__(self, medium: Medium, width: int, cell: str = "gru", timed: bool = False) -> None:
        super().__init__()
        if cell not in CELLS:
            raise UsageError(f"cell {cell!r} is not known; choose one of {', '.join(CELLS)}")
        blocks = GATES_PER_CELL[cell]
        self.medium, self.width, self.cell, self.timed = medium, width, cell, timed
        spread = 1.0 if medium.is_symbols else medium.size**-0.5
        self.inputs = nn.Parameter(torch.randn(medium.size, blocks * width) * spread)
        self.time = nn.Parameter(torch.zeros(TIME_BUCKETS, blocks * width)) if timed else None
        square = [nn.init.orthogonal_(torch.empty(width, width)) for _ in range(blocks)]
        self.recurrent = nn.Parameter(torch.cat(square, 1))
        self.inner_bias = nn.Parameter(torch.zeros(width)) if cell == "gru" else None
        bias = torch.zeros(blocks * width)
        if cell == "lstm":
            bias[width : 2 * width] = 1.0  # forget gate, Jozefowicz et al. 2015
        self.bias = nn.Parameter(bias)
        self.readout = nn.Parameter(torch.randn(width, medium.outputs) * 0.05)
        self.readout_bias = nn.Parameter(torch.zeros(medium.outputs))
        self.persistence = None if medium.is_symbols else nn.Parameter(torch.full((medium.size,), 0.5))
        self.register_buffer("time_bounds", torch.tensor(TIME_BOUNDS), persistent=False)
        self.time_bounds: Tensor

    def start(self, rows: int) -> tuple[Tensor, Tensor | None]:
        """Cold h (B, H) and, of an LSTM, c."""
        h = self.bias.new_zeros(rows, self.width)
        return h, h.clone() if self.cell == "lstm" else None

    def forward(
        self, inputs: Tensor, since: Tensor | None, h: Tensor, c: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """States (E, B, H) after each of the inputs (E, B) or (E, B, D), `since` (E, B) after the one before."""
        if self.medium.is_symbols:
            a = nn.functional.embedding(inputs, self.inputs) + self.bias
        else:
            a = inputs.to(self.inputs.dtype) @ self.inputs + self.bias
        if self.time is not None and since is not None:
            a = a + nn.functional.embedding(torch.bucketize(since, self.time_bounds), self.time)
        return recur(self.cell, a, h, c, self.recurrent, self.inner_bias)

    def predict(self, h: Tensor, last: Tensor) -> Tensor:
        """The next input's prediction (..., V or 2 D) from states (..., H) and the last inputs (..., D)."""
        out = h @ self.readout + self.readout_bias
        if self.persistence is None:
            return out
        mean, log_scale = out[..., : self.medium.size], out[..., self.medium.size :]
        floor = float(np.log(self.medium.quantum))
        mean = mean + last.to(out.dtype) * self.persistence
        return torch.cat([mean, log_scale.clamp(floor, 3.0)], -1)


@dataclass
class Carry:
    """What a level remembers between windows, B rows.

    h, c: (B, H). last: (B,) or (B, D) its last input. last_at: (B,) when that was, -1 if there was none.
    """

    h: Tensor
    c: Tensor | None
    last: Tensor
    last_at: Tensor


@dataclass(frozen=True)
class Ticks:
    """What one level received in a window and made of it.

    inputs: (E, B) or (E, B, D). at: (E, B) times. given: (E, B) bool, else filling. states: (E, B, H) after
    each input. prediction: (E, B, V or 2 D), made before the input was read. unexpected: (E, B) bool, what
    goes up.
    """

    inputs: Tensor
    at: Tensor
    given: Tensor
    states: Tensor
    prediction: Tensor
    unexpected: Tensor


@dataclass(frozen=True)
class History:
    """A sequence of T inputs as the stack saw it.

    levels: for every level the times (E,) int64 of the inputs that it received; the lowest received all.
        One more entry at the end: what the top level did not predict.
    bits, expected_bits: (T,) each input's surprise under the lowest level, and what that level expected its
        surprise to be (its prediction's entropy).
    """

    levels: tuple[Array, ...]
    bits: Array
    expected_bits: Array

    @property
    def top(self) -> Array:
        """Times of the events that reached the top level."""
        return self.levels[-2]


class HistoryStack(nn.Module):
    """A stack of predictors; `thresholds` are those of the gates above each level, as calibrated."""

    def __init__(self, medium: Medium, cell: str = "gru", gate: HistoryGate | None = None) -> None:
        super().__init__()
        self.medium, self.cell, self.gate = medium, cell, gate or HistoryGate()
        medium.check_gate(self.gate)
        self.levels = nn.ModuleList()
        self.thresholds: list[float] = []

    def level(self, index: int) -> HistoryLevel:
        """Level `index`, lowest first."""
        level = self.levels[index]
        if not isinstance(level, HistoryLevel):
            raise TypeError(f"level {index} is a {type(level).__name__}")
        return level

    def add(self, level: HistoryLevel, threshold: float) -> None:
        """Put a trained level on top; it is frozen, and its gate passes measures above `threshold`."""
        self.levels.append(level.double().requires_grad_(False))
        self.thresholds.append(threshold)

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden units of each level, lowest first."""
        return tuple(self.level(i).width for i in range(len(self.levels)))

    # ---- running ---------------------------------------------------------------------------------------

    def start(self, rows: int) -> list[Carry]:
        """Cold states of all levels."""
        carries = []
        for i in range(len(self.levels)):
            h, c = self.level(i).start(rows)
            carries.append(Carry(h, c, self.medium.empty(rows), torch.full((rows,), -1)))
        return carries

    @torch.no_grad()
    def run(self, inputs: Tensor, given: Tensor, offset: int, carries: list[Carry]) -> list[Ticks]:
        """Read a window: inputs (T, B) or (T, B, D), of which those `given` (T, B) count.

        offset: time of the window's first input. carries: from `start` or the window before; changed.
        """
        at = torch.arange(offset, offset + len(inputs)).unsqueeze(1).expand(given.shape)
        found = []
        for i in range(len(self.levels)):
            ticks = self._tick(i, inputs, at, given, carries[i])
            found.append(ticks)
            inputs, at, given = pack(ticks)
        return found

    def _tick(self, index: int, inputs: Tensor, at: Tensor, given: Tensor, carry: Carry) -> Ticks:
        level = self.level(index)
        first = carry.last_at < 0  # (B,) rows that this level has never heard of
        before_at = torch.cat([carry.last_at.unsqueeze(0), at])[: len(at)]
        hs, cs = level(inputs, (at - before_at).clamp_min(1), carry.h, carry.c)
        states = torch.cat([carry.h.unsqueeze(0), hs])
        lasts = torch.cat([carry.last.to(inputs.dtype).unsqueeze(0), inputs])
        prediction = level.predict(states[:-1], lasts[:-1])
        missed = self.medium.measure(self.gate, prediction, inputs) > self.thresholds[index]
        if len(missed):
            missed[0] |= first
        count = given.sum(0)  # filling stands only after a row's last input
        rows = torch.arange(given.shape[1])
        carry.h, carry.last = states[count, rows], lasts[count, rows]
        if cs is not None and carry.c is not None:
            carry.c = torch.cat([carry.c.unsqueeze(0), cs])[count, rows]
        carry.last_at = torch.cat([carry.last_at.unsqueeze(0), at])[count, rows]
        return Ticks(inputs, at, given, hs, prediction, given & missed)

    def read(self, sequences: list[Array]) -> list[History]:
        """Every sequence as the stack saw it, each cold from its beginning."""
        found: list[History | None] = [None] * len(sequences)
        for rows in batches(sequences):
            for row, history in zip(rows, self._read_rows([sequences[i] for i in rows]), strict=True):
                found[row] = history
        return [history for history in found if history is not None]

    def _read_rows(self, rows: list[Array]) -> list[History]:
        depth = len(self.levels)
        carries = self.start(len(rows))
        times: list[list[list[Array]]] = [[[] for _ in range(depth)] for _ in rows]
        bits: list[list[Array]] = [[] for _ in rows]
        expected: list[list[Array]] = [[] for _ in rows]
        for offset, inputs, given in windows(rows, self.medium):
            ticks = self.run(inputs, given, offset, carries)
            for i, tick in enumerate(ticks):
                unexpected, at = tick.unexpected.t().numpy(), tick.at.t().numpy()
                for b in range(len(rows)):
                    times[b][i].append(at[b][unexpected[b]])
            cost = self.medium.bits(ticks[0].prediction, inputs).t().numpy()
            entropy = self.medium.entropy_bits(ticks[0].prediction).t().numpy()
            counts = given.sum(0).tolist()
            for b, count in enumerate(counts):
                bits[b].append(cost[b, :count])
                expected[b].append(entropy[b, :count])
        return [
            History(
                (np.arange(len(row)), *(_join(parts, np.int64) for parts in times[b])),
                _join(bits[b], np.float64),
                _join(expected[b], np.float64),
            )
            for b, row in enumerate(rows)
        ]


def pack(ticks: Ticks) -> tuple[Tensor, Tensor, Tensor]:
    """The unexpected inputs of each row moved to the front: inputs (E, B[, D]), at (E, B), given (E, B)."""
    events = ticks.unexpected
    E = int(events.sum(0).max()) if events.numel() else 0
    slot = torch.where(events, events.cumsum(0) - 1, E)  # what is no event lands in a spare slot
    at = ticks.at.new_zeros(E + 1, events.shape[1]).scatter_(0, slot, ticks.at)[:E]
    inputs = ticks.inputs.new_zeros(E + 1, *ticks.inputs.shape[1:])
    wide = slot if ticks.inputs.dim() == 2 else slot.unsqueeze(-1).expand(ticks.inputs.shape)
    inputs = inputs.scatter_(0, wide, ticks.inputs)[:E]
    given = torch.arange(E).unsqueeze(1) < events.sum(0)
    return inputs, torch.where(given, at, 0), given


def batches(sequences: list[Array], rows: int = 256) -> Iterator[list[int]]:
    """Indices of sequences of about equal length, so many that a window of all has BATCH_INPUTS at most."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) == rows or min(len(sequences[i]), WINDOW) * (len(batch) + 1) > BATCH_INPUTS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def windows(rows: list[Array], medium: Medium) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Offset, inputs (T, B[, D]) and given (T, B) of each window over rows of unequal length; at least one."""
    longest = max(map(len, rows), default=0)
    for offset in range(0, max(longest, 1), WINDOW):
        inputs, given = pad([row[offset : offset + WINDOW] for row in rows], medium)
        yield offset, inputs, given


def pad(rows: list[Array], medium: Medium, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Rows as one tensor, time first: inputs (T, B[, D]) filled with zeros, and which are given (T, B)."""
    lengths = torch.tensor([len(row) for row in rows])
    T = int(lengths.max()) if rows else 0
    inputs = medium.empty(T, len(rows), dtype=dtype)
    for b, row in enumerate(rows):
        inputs[: len(row), b] = torch.from_numpy(np.ascontiguousarray(row)).to(inputs.dtype)
    return inputs, torch.arange(T).unsqueeze(1) < lengths


def since_of(at: Array) -> Array:
    """Times (E,) -> the time since the one before, counted from just before the sequence."""
    return np.diff(at, prepend=-1)


def _join(parts: list[Array], dtype: Any) -> Array:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)
