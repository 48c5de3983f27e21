"""A faithful stack over sequences of symbols or vectors; each row is read for itself.

    paper (Schmidhuber 1992)             here
    predictor P_s                        Level s
    "unexpected input"                   event: an input that passes the gate above its level
    unique representation of the time    time since the level's last input, log-scaled code

It shares levels, gates and packing with `chunker.learning.stack.Stack` and differs from it where sequences
are to be classified rather than coded:

- Rows have different lengths and never meet: what is an event in a row depends on that row alone. So trained
  levels hold float64: the rounding of a product depends on the number of rows, and in float32 would decide
  events.
- No level predicts times: its events are read, not expanded, and a gate on times would let more of them pass.
- Each level runs on its packed inputs only. A Stack needs every level's prediction at every symbol.

Letters: T inputs, E events, B rows, D channels, H hidden units, V symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chunker.config import GateRule
from chunker.learning.gate import unexpected
from chunker.learning.level import Level, LevelState
from chunker.learning.observation import Array, Observation, observation_from_json
from chunker.learning.packing import pack

WINDOW = 512  # inputs that are read in one go; longer sequences are carried from window to window
BATCH_INPUTS = 2**16  # at most in a window of all rows together
STEP_ROWS = 32  # what a step costs besides its rows, in rows
_READOUT_STD = 0.05


@dataclass(frozen=True)
class LevelTrace:
    """What one level received in a window and made of it.

    inputs: (E, B) or (E, B, D). at: (E, B) times in the window. given: (E, B) bool, else filling. states: (1
    + E, B, H), before the window and after each input. prediction: (E, B, V or 2 D), made before the input
    was read. unexpected: (E, B) bool, what goes up.
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
    """A stack of frozen predictors.

    gate: its rule; `thresholds` are those of the gates above each level, in the rule's unit, as calibrated.
    """

    def __init__(self, observation: Observation, cell: str = "gru", gate: GateRule | None = None) -> None:
        super().__init__()
        self.observation, self.cell, self.gate = observation, cell, gate or GateRule()
        observation.check_gate(self.gate)
        self.levels = nn.ModuleList()
        self.thresholds: list[float] = []

    def level(self, index: int) -> Level:
        """Level `index`, lowest first."""
        level = self.levels[index]
        if not isinstance(level, Level):
            raise TypeError(f"level {index} is a {type(level).__name__}")
        return level

    def new_level(self, width: int) -> Level:
        """A level with random weights, float32, to be trained and then added."""
        timed = len(self.levels) > 0
        return Level(self.observation, width, self.cell, timed=timed, readout_std=_READOUT_STD)

    def add(self, level: Level, threshold: float) -> None:
        """Put a trained level on top; it is frozen, and its gate passes what measures above `threshold`."""
        self.levels.append(level.double().requires_grad_(False))
        self.thresholds.append(threshold)

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden units of each level, lowest first."""
        return tuple(self.level(i).width for i in range(len(self.levels)))

    # ---- running ---------------------------------------------------------------------------------------

    def start(self, rows: int) -> list[LevelState]:
        """Cold states of all levels."""
        return [self.level(i).start(rows) for i in range(len(self.levels))]

    @torch.no_grad()
    def run(
        self, inputs: Tensor, given: Tensor, states: Sequence[LevelState]
    ) -> tuple[list[LevelTrace], list[LevelState]]:
        """Read a window: inputs (T, B) or (T, B, D), of which the first ones of each row are `given` (T, B).

        states: from `start` or the window before. Returns the traces of all levels, and the states
        afterwards.
        """
        T = len(inputs)
        at = torch.arange(T).unsqueeze(1).expand(given.shape)
        traces, after = [], []
        for i, state in enumerate(states):
            trace, state = self._run_level(i, T, inputs, at, given, state)
            traces.append(trace)
            after.append(state)
            at, inputs, given = pack(trace.unexpected, at, inputs, given)
        return traces, after

    def _run_level(
        self, index: int, T: int, inputs: Tensor, at: Tensor, given: Tensor, state: LevelState
    ) -> tuple[LevelTrace, LevelState]:
        level, count = self.level(index), given.sum(0)
        times = torch.diff(at, dim=0, prepend=-1 - state.since.unsqueeze(0)).clamp_min(1)
        values, after = level.run(inputs, state, times, count=count)
        prediction = level.predictions(inputs, values, state.last)
        missed = unexpected(self.observation, prediction, inputs, self.gate, self.thresholds[index])
        if len(missed):
            missed[0] |= state.fresh
        last = torch.where(given, at, -1).amax(0) if len(at) else count - 1
        since = torch.where(count > 0, T - 1 - last, state.since + T)
        after = replace(after, since=since, fresh=state.fresh & (count == 0))
        return LevelTrace(inputs, at, given, values, prediction, given & missed), after

    @torch.no_grad()
    def step(self, inputs: Tensor, states: Sequence[LevelState]) -> tuple[list[Tensor], list[LevelState]]:
        """Read one input of each row, (B,) or (B, D): which rows' levels received it, per level (B,) bool,
        and the states afterwards. As `run` on a window of one, but a level that no row reaches is not run.
        """
        event = torch.ones(len(inputs), dtype=torch.bool)
        received, after = [], []
        for i, state in enumerate(states):
            received.append(event)
            since = torch.where(event, 0, state.since + 1)
            if not bool(event.any()):
                after.append(replace(state, since=since))
                continue
            level, keep = self.level(i), event.unsqueeze(1)
            h, c = level.step(inputs, state, state.since + 1)
            missed = event & state.fresh
            if i + 1 < len(states):
                prediction = level.predict(state.h, state.last)
                limit = self.thresholds[i]
                missed |= event & unexpected(self.observation, prediction, inputs, self.gate, limit)
            after.append(
                replace(
                    state,
                    h=torch.where(keep, h, state.h),
                    c=None if c is None or state.c is None else torch.where(keep, c, state.c),
                    since=since,
                    fresh=state.fresh & ~event,
                    last=None if state.last is None else torch.where(keep, inputs, state.last),
                )
            )
            event = missed
        return received, after

    def read(self, sequences: list[Array]) -> list[History]:
        """Every sequence as the stack saw it, each from a cold start."""
        found: list[History | None] = [None] * len(sequences)
        for rows in batches(sequences):
            for row, history in zip(rows, self._read_rows([sequences[i] for i in rows]), strict=True):
                found[row] = history
        return [history for history in found if history is not None]

    def _read_rows(self, rows: list[Array]) -> list[History]:
        depth = len(self.levels)
        states = self.start(len(rows))
        times: list[list[list[Array]]] = [[[] for _ in range(depth)] for _ in rows]
        bits: list[list[Array]] = [[] for _ in rows]
        expected: list[list[Array]] = [[] for _ in rows]
        for offset, inputs, given in windows(rows, self.observation):
            traces, states = self.run(inputs, given, states)
            for i, trace in enumerate(traces):
                unexpected, at = trace.unexpected.t().numpy(), trace.at.t().numpy() + offset
                for b in range(len(rows)):
                    times[b][i].append(at[b][unexpected[b]])
            cost = self.observation.bits(traces[0].prediction, inputs).t().numpy()
            entropy = self.observation.entropy_bits(traces[0].prediction).t().numpy()
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

    # ---- files -----------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, for `from_json`."""
        return {
            "observation": self.observation.to_json(),
            "cell": self.cell,
            "gate": {"rule": self.gate.rule, "value": self.gate.value},
            "widths": list(self.widths),
            "thresholds": [float(value) for value in self.thresholds],
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> HistoryStack:
        """A stack from `to_json`, its weights still random: load them into `levels`."""
        gate = GateRule(str(fields["gate"]["rule"]), float(fields["gate"]["value"]))
        stack = cls(observation_from_json(fields["observation"]), str(fields["cell"]), gate)
        for width, threshold in zip(fields["widths"], fields["thresholds"], strict=True):
            stack.add(stack.new_level(int(width)), float(threshold))
        return stack


def batches(sequences: list[Array], rows: int = 256) -> Iterator[list[int]]:
    """Indices of sequences of about equal length, so many that a window of all has BATCH_INPUTS at most."""
    for alike in of_like_length([len(row) for row in sequences]):
        batch: list[int] = []
        for i in alike:
            inputs = min(len(sequences[i]), WINDOW) * (len(batch) + 1)
            if batch and (len(batch) == rows or inputs > BATCH_INPUTS):
                yield batch
                batch = []
            batch.append(i)
        yield batch


def of_like_length(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of rows, shortest first, in as few parts as make padding cheap: one long row does not make many
    short ones long.

    A part is cut in two where that saves work: rows that are read side by side cost (rows + STEP_ROWS) * the
    longest of them.
    """
    parts, done = [sorted(range(len(lengths)), key=lengths.__getitem__)], []
    while parts:
        part = parts.pop()
        sorted_ = np.array([lengths[i] for i in part])
        k = np.arange(1, len(part))
        costs = sorted_[:-1] * (STEP_ROWS + k) + sorted_[-1:] * (STEP_ROWS + len(part) - k)
        if len(costs) and costs.min() < sorted_[-1] * (STEP_ROWS + len(part)):
            cut = int(costs.argmin()) + 1
            parts += [part[cut:], part[:cut]]
        elif part:
            done.append(part)
    return done


def windows(rows: list[Array], observation: Observation) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Offset, inputs (T, B[, D]) and given (T, B) of each window over rows of any lengths; at least one."""
    longest = max(map(len, rows), default=0)
    for offset in range(0, max(longest, 1), WINDOW):
        inputs, given = pad([row[offset : offset + WINDOW] for row in rows], observation)
        yield offset, inputs, given


def pad(
    rows: list[Array], observation: Observation, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Rows as one tensor, time first: inputs (T, B[, D]) filled with zeros, and which are given (T, B)."""
    lengths = torch.tensor([len(row) for row in rows])
    T = int(lengths.max()) if rows else 0
    inputs = observation.empty(T, len(rows), dtype=dtype)
    for b, row in enumerate(rows):
        inputs[: len(row), b] = torch.from_numpy(np.ascontiguousarray(row)).to(inputs.dtype)
    return inputs, torch.arange(T).unsqueeze(1) < lengths


def since_of(at: Array) -> Array:
    """Times (E,) -> the time since the one before, counted from just before the sequence."""
    return np.diff(at, prepend=-1)


def _join(parts: list[Array], dtype: Any) -> Array:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)
