"""Unsupervised training of a stack, level by level.

A level is trained on its own inputs until its bits on sequences that are held out stop falling, then frozen;
its gate is calibrated; what passes the gate is the next level's training data. It ends when the configured
levels are there, when the events are too few for another level, or when a level leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from chunker.classification.history import HistoryLevel, HistoryStack, pad, since_of
from chunker.classification.inputs import Array, check_count
from chunker.classification.medium import HistoryGate, Medium
from chunker.errors import TrainingError, UsageError

FEWEST_EVENTS = 2.0  # a sequence on average; with fewer there is nothing left to predict
LARGEST_SHARE = 0.95  # of a level's inputs that pass its gate; with more it leaves nothing out
CHECK_EVERY = 25  # steps
GAIN = 0.003  # relative fall of the held-out bits that counts as progress
PATIENCE = 6  # checks without progress
CALIBRATION_INPUTS = 200_000
Row = TypeVar("Row")


@dataclass(frozen=True)
class Growth:
    """How levels are trained.

    levels: hidden units of each, lowest first. steps: gradient steps a level at most. window: inputs that
    gradients reach back. batch: windows a step. rate: Adam's learning rate. held_out: share of the sequences
    on which progress is measured (none of fewer than 20 sequences: then the training windows serve).
    """

    levels: Sequence[int] = (64, 64)
    steps: int = 500
    window: int = 128
    batch: int = 32
    rate: float = 3e-3
    held_out: float = 0.1

    def __post_init__(self) -> None:
        if not np.iterable(self.levels) or not len(self.levels):
            raise UsageError(
                f"levels={self.levels!r}: a stack has at least one level; give the hidden units, as in (64, 64)"
            )
        for width in self.levels:
            check_count("hidden units of levels", width, 1)
        check_count("window", self.window, 1)
        check_count("batch", self.batch, 1)
        check_count("steps", self.steps, 0)


@dataclass(frozen=True)
class LevelReport:
    """What growing found of one level: its events are the share of all inputs that it received."""

    width: int
    share: float
    bits: float
    steps: int
    threshold: float


def grow(
    medium: Medium,
    sequences: list[Array],
    growth: Growth,
    gate: HistoryGate,
    cell: str,
    random: np.random.Generator,
) -> tuple[HistoryStack, list[LevelReport]]:
    """A stack trained on sequences (T,) or (T, D), prepared as the medium wants them.

    Initial weights come from torch's global generator; `random` picks windows.

    Raises
    ------
    TrainingError: the loss is no longer finite.
    """
    stack = HistoryStack(medium, cell, gate)
    reports: list[LevelReport] = []
    times = [np.arange(len(row)) for row in sequences]
    total = max(sum(map(len, sequences)), 1)
    for index, width in enumerate(growth.levels):
        events = sum(map(len, times))
        if index and (
            events < FEWEST_EVENTS * len(sequences) or events > LARGEST_SHARE * total * reports[-1].share
        ):
            break
        rows = [(row[at], since_of(at)) for row, at in zip(sequences, times, strict=True)]
        level = HistoryLevel(medium, width, cell, timed=index > 0)
        bits, steps = train_level(level, rows, growth, random)
        stack.add(level, 0.5)  # of the argmax rule; any other is set now
        stack.thresholds[index] = _calibrate(stack, index, rows, random)
        reports.append(LevelReport(width, events / total, bits, steps, stack.thresholds[index]))
        if index + 1 < len(growth.levels):
            times = [history.levels[-1] for history in stack.read(sequences)]
    return stack, reports


def train_level(
    level: HistoryLevel, rows: list[tuple[Array, Array]], growth: Growth, random: np.random.Generator
) -> tuple[float, int]:
    """Train on (inputs, since) rows; bits per input at the best check, whose weights are kept, and its step."""
    rows = [row for row in rows if len(row[0])]
    if not rows or growth.steps == 0:
        return float("nan"), 0
    training, checks = hold_out(rows, growth.held_out, random)
    check = _windows(level.medium, checks, min(4 * growth.batch, 2 * len(checks)), growth.window, random)
    weights = np.array([len(row[0]) for row in training], dtype=np.float64)
    weights /= weights.sum()
    optimizer = torch.optim.Adam(level.parameters(), lr=growth.rate, betas=(0.9, 0.99))
    best, best_step, since_best = float("inf"), 0, 0
    kept = {name: value.detach().clone() for name, value in level.state_dict().items()}
    for step in range(growth.steps + 1):
        if step % CHECK_EVERY == 0 or step == growth.steps:
            with torch.no_grad():
                bits = float(_loss(level, *check))
            if not np.isfinite(bits):
                raise TrainingError("the loss of a level is no longer finite; lower the learning rate")
            if bits < best - GAIN * abs(best) or not np.isfinite(best):
                since_best = 0
            else:
                since_best += 1
            if bits < best:
                best, best_step = bits, step
                kept = {name: value.detach().clone() for name, value in level.state_dict().items()}
            if since_best >= PATIENCE or step == growth.steps:
                break
        for group in optimizer.param_groups:
            group["lr"] = growth.rate * min(1.0, 2.0 * (1 - step / growth.steps) + 0.05)
        batch = _windows(level.medium, training, growth.batch, growth.window, random, weights)
        optimizer.zero_grad()
        _loss(level, *batch).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(level.parameters(), 1.0)
        optimizer.step()
    level.load_state_dict(kept)
    return best, best_step


def hold_out(rows: list[Row], share: float, random: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to measure on, of fewer than 20 the same."""
    order = random.permutation(len(rows))
    held = int(len(rows) * share) if len(rows) >= 20 else 0
    training = [rows[i] for i in order[held:]]
    return training, [rows[i] for i in order[:held]] or training


def _windows(
    medium: Medium,
    rows: list[tuple[Array, Array]],
    count: int,
    window: int,
    random: np.random.Generator,
    weights: Array | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random windows, starting at a sequence's beginning or within: inputs, since and given, time first."""
    picked = [rows[i] for i in random.choice(len(rows), count, p=weights)]
    starts = [int(random.integers(0, max(len(row[0]) - window, 0) + 1)) for row in picked]
    inputs, given = pad(
        [row[0][s : s + window] for row, s in zip(picked, starts, strict=True)], medium, torch.float32
    )
    since = torch.ones(given.shape, dtype=torch.int64)
    for b, (row, start) in enumerate(zip(picked, starts, strict=True)):
        part = row[1][start : start + window]
        since[: len(part), b] = torch.from_numpy(part)
    return inputs, since, given


def _loss(level: HistoryLevel, inputs: Tensor, since: Tensor, given: Tensor) -> Tensor:
    """Mean bits per given input; vectors: per channel, so that the rate fits any number of them."""
    h, c = level.start(inputs.shape[1])
    hs, _ = level(inputs, since, h, c)
    states = torch.cat([h.unsqueeze(0), hs])[:-1]
    lasts = torch.cat([torch.zeros_like(inputs[:1]), inputs])[:-1]
    return mean_bits(level, states, lasts, inputs, given)


def mean_bits(level: HistoryLevel, states: Tensor, lasts: Tensor, inputs: Tensor, given: Tensor) -> Tensor:
    """Per given input, and of vectors per channel; states and lasts are from before each of the inputs."""
    bits = level.medium.bits(level.predict(states, lasts), inputs)
    channels = 1 if level.medium.is_symbols else level.medium.size
    return (bits * given).sum() / (given.sum() * channels)


@torch.no_grad()
def _calibrate(
    stack: HistoryStack, index: int, rows: list[tuple[Array, Array]], random: np.random.Generator
) -> float:
    """The threshold of the gate above level `index`: its value, or the one that passes the wanted share."""
    gate = stack.gate
    if gate.rule == "argmax":
        return 0.5  # a miss measures 1
    if gate.rule != "rate":
        return gate.value
    rows = [row for row in rows if len(row[0])]
    if not rows:
        return 0.0
    level = stack.level(index)
    measures: list[Array] = []
    seen = 0
    for i in random.permutation(len(rows)):
        inputs, since = (torch.from_numpy(np.ascontiguousarray(part[:4096])).unsqueeze(1) for part in rows[i])
        h, c = level.start(1)
        hs, _ = level(inputs, since, h, c)
        states = torch.cat([h.unsqueeze(0), hs])[:-1]
        lasts = torch.cat([torch.zeros_like(inputs[:1]), inputs])[:-1]
        measure = stack.medium.measure(gate, level.predict(states, lasts), inputs)
        measures.append(measure[:, 0].numpy())
        seen += len(inputs)
        if seen >= CALIBRATION_INPUTS or len(measures) >= 400:
            break
    return float(np.quantile(np.concatenate(measures), 1 - gate.value))
