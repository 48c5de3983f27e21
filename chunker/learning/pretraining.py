"""Unsupervised training of a `HistoryStack` on sequences, level by level.

A level is trained on its own inputs until its bits on sequences that are held out stop falling, then frozen;
its gate is calibrated; what passes the gate is the next level's training data. It ends when the configured
levels are there, when the events are too few for another level, or when a level leaves nothing out.

`chunker.learning.growing` does the same for one long stream. There states are carried through the stream, and
a level must lower the bits of the whole stack to stay; here sequences are short and many, windows are drawn
from them at random, and a level is kept for its events, from which classes are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from chunker.config import GateRule
from chunker.errors import UsageError
from chunker.learning.config import check_count
from chunker.learning.fitting import EarlyStopping, descend
from chunker.learning.history import HistoryStack, pad, since_of
from chunker.learning.level import Level
from chunker.learning.observation import Array, Observation

FEWEST_EVENTS = 2.0  # a sequence on average; with fewer there is nothing left to predict
LARGEST_SHARE = 0.95  # of a level's inputs that pass its gate; with more it leaves nothing out
CHECK_EVERY = 25  # steps
GAIN = 0.003  # relative fall of the held-out bits that counts as progress
PATIENCE = 6  # checks without progress
CALIBRATION_INPUTS = 200_000
Row = TypeVar("Row")


@dataclass(frozen=True)
class PretrainConfig:
    """How levels are trained.

    levels: hidden units of each, lowest first. steps: gradient steps per level at most. window: inputs
    through which gradients flow back. batch: windows per step. learning_rate: Adam's, constant for half of
    the steps and then falling linearly to 5 %. held_out: share of the sequences on which progress is
    measured; of fewer than 20 sequences none, and progress is measured on those that train. all_levels: all
    are made, however few or many inputs reach them.
    """

    levels: Sequence[int] = (64, 64)
    steps: int = 500
    window: int = 128
    batch: int = 32
    learning_rate: float = 3e-3
    held_out: float = 0.1
    all_levels: bool = False

    def __post_init__(self) -> None:
        if not np.iterable(self.levels) or not len(self.levels):
            raise UsageError(
                f"levels={self.levels!r}: a stack has at least one level; give hidden units, as in (64, 64)"
            )
        for width in self.levels:
            check_count("hidden units of levels", width, 1)
        check_count("window", self.window, 1)
        check_count("batch", self.batch, 1)
        check_count("steps", self.steps, 0)


@dataclass(frozen=True)
class PretrainReport:
    """What growing found of one level: its events are the share of all inputs that it received."""

    width: int
    share: float
    bits: float
    steps: int
    threshold: float


def pretrain(
    observation: Observation,
    sequences: list[Array],
    config: PretrainConfig,
    gate: GateRule,
    cell: str,
    random: np.random.Generator,
    start: HistoryStack | None = None,
) -> tuple[HistoryStack, list[PretrainReport]]:
    """A stack trained on sequences (T,) or (T, D), prepared as the observation model wants them.

    Initial weights come from torch's global generator, or are those of the levels of `start`, which stays as
    it is; `random` picks windows.

    Raises
    ------
    TrainingError: the loss is no longer finite.
    """
    stack = HistoryStack(observation, cell, gate)
    reports: list[PretrainReport] = []
    times = [np.arange(len(row)) for row in sequences]
    total = max(sum(map(len, sequences)), 1)
    for index, width in enumerate(config.levels):
        events = sum(map(len, times))
        if (
            index
            and not config.all_levels
            and (
                events < FEWEST_EVENTS * len(sequences) or events > LARGEST_SHARE * total * reports[-1].share
            )
        ):
            break
        rows = [(row[at], since_of(at)) for row, at in zip(sequences, times, strict=True)]
        level = stack.new_level(width)
        if start is not None:
            level.load_state_dict(start.level(index).state_dict())
        bits, steps = train_level(level, rows, config, random)
        stack.add(level, 0.0)
        stack.thresholds[index] = _calibrate(stack, index, rows, random)
        reports.append(PretrainReport(width, events / total, bits, steps, stack.thresholds[index]))
        if index + 1 < len(config.levels):
            times = [history.levels[-1] for history in stack.read(sequences)]
    return stack, reports


def train_level(
    level: Level, rows: list[tuple[Array, Array]], config: PretrainConfig, random: np.random.Generator
) -> tuple[float, int]:
    """Train on (inputs, since) rows; bits per input at the best check, whose weights are kept; its step."""
    rows = [row for row in rows if len(row[0])]
    if not rows or config.steps == 0:
        return float("nan"), 0
    training, checks = hold_out(rows, config.held_out, random)
    check = _windows(level.observation, checks, min(4 * config.batch, 2 * len(checks)), config.window, random)
    weights = np.array([len(row[0]) for row in training], dtype=np.float64)
    weights /= weights.sum()

    def losses() -> Iterator[Tensor]:
        for _ in range(config.steps):
            yield _loss(
                level, *_windows(level.observation, training, config.batch, config.window, random, weights)
            )

    def learning_rate(step: int) -> float:
        return config.learning_rate * min(1.0, 2.0 * (1 - step / config.steps) + 0.05)

    @torch.no_grad()
    def bits() -> float:
        return float(_loss(level, *check))

    stopping = EarlyStopping(level, PATIENCE, GAIN)
    stopping.look(bits(), 0)
    for step in descend(losses(), level.parameters(), learning_rate):
        if (step % CHECK_EVERY == 0 or step == config.steps) and stopping.look(bits(), step):
            break
    stopping.restore()
    return stopping.best_bits, stopping.best_step


def hold_out(rows: list[Row], share: float, random: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to measure on, of fewer than 20 the same."""
    order = random.permutation(len(rows))
    held = int(len(rows) * share) if len(rows) >= 20 else 0
    training = [rows[i] for i in order[held:]]
    return training, [rows[i] for i in order[:held]] or training


def _windows(
    observation: Observation,
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
        [row[0][s : s + window] for row, s in zip(picked, starts, strict=True)], observation, torch.float32
    )
    since = torch.ones(given.shape, dtype=torch.int64)
    for b, (row, start) in enumerate(zip(picked, starts, strict=True)):
        part = row[1][start : start + window]
        since[: len(part), b] = torch.from_numpy(part)
    return inputs, since, given


def _loss(level: Level, inputs: Tensor, since: Tensor, given: Tensor) -> Tensor:
    """`mean_bits` of windows that begin with a cold state."""
    state = level.start(inputs.shape[1])
    values, _ = level.run(inputs, state, since)
    return mean_bits(level.observation, level.predictions(inputs, values, state.last), inputs, given)


def mean_bits(observation: Observation, prediction: Tensor, inputs: Tensor, given: Tensor) -> Tensor:
    """Mean bits per given input (T, B[, D]), of vectors per channel: one learning rate fits any number."""
    bits = observation.bits(prediction, inputs)
    return (bits * given).sum() / (given.sum() * observation.channels)


@torch.no_grad()
def _calibrate(
    stack: HistoryStack, index: int, rows: list[tuple[Array, Array]], random: np.random.Generator
) -> float:
    """The threshold of the gate above level `index`: its value, or the one that passes the wanted share."""
    gate = stack.gate
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
        state = level.start(1)
        values, _ = level.run(inputs, state, since)
        measure = stack.observation.measure(gate, level.predictions(inputs, values, state.last), inputs)
        measures.append(measure[:, 0].numpy())
        seen += len(inputs)
        if seen >= CALIBRATION_INPUTS or len(measures) >= 400:
            break
    return float(np.quantile(np.concatenate(measures), 1 - gate.value))
