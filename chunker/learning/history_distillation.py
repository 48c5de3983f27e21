"""Distilling the upper levels of a `HistoryStack` into the lowest one, over symbols or vectors.

    inputs --> student (trained) --> state h --linear--> the upper levels' states, normalised   (MSE)
       |                 '--> the next input   (bits)
       '-----> the stack (frozen), its upper levels' states held between their inputs

Schmidhuber 1992, section 4: the automatizer A learns its own next input and the chunker C's hidden state,
until it predicts what only C could, and passes up less. C's outputs are linear in its state, so they need no
term of their own. `chunker.learning.distillation` does the same for stacks that code bytes, within a
`Trainer`: endless streams, a budget, checkpoints, any student.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from chunker.errors import UsageError
from chunker.learning.config import check_weights
from chunker.learning.fitting import descend
from chunker.learning.history import History, HistoryStack, batches, pad, windows
from chunker.learning.level import Level
from chunker.learning.observation import Array
from chunker.learning.pretraining import hold_out, mean_bits

HELD_OUT = 0.1  # of the sequences, if there are 20 or more; else all of them measure
SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True)
class HistoryDistillConfig:
    """How level 0 is taught.

    own_weight: of its own next input, in bits per channel. state_weight: of the mean squared error of the
    upper levels' normalised states; 0: no teacher, as a control. steps: gradient steps. window: inputs
    through which gradients flow back; states are carried on from the beginning of each sequence. batch:
    sequences side by side. learning_rate: Adam's, falling to 0 by a cosine.

    Raises
    ------
    UsageError: a value out of range.
    """

    own_weight: float = 1.0
    state_weight: float = 4.0
    steps: int = 1000
    window: int = 32
    batch: int = 32
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        check_weights(self.own_weight, self.state_weight)
        if min(self.steps, self.window, self.batch) < 1 or not 0 < self.learning_rate < math.inf:
            raise UsageError("steps, window and batch are at least 1, the learning rate above 0")


@dataclass(frozen=True)
class HistoryDistillReport:
    """Level 0 alone before and after, on sequences that were held out if there were 20 or more.

    bits_before, bits_after: of an input, mean. passed_before, passed_after: share of the inputs that pass its
    gate. old_before, old_after: bits of the inputs that it expected beforehand: what it forgot. state_error:
    mean squared error of the upper levels' normalised states, read from its own; about 1 if it knows nothing.
    """

    bits_before: float
    bits_after: float
    passed_before: float
    passed_after: float
    old_before: float
    old_after: float
    state_error: float


def distill_history(
    stack: HistoryStack, sequences: list[Array], config: HistoryDistillConfig, random: np.random.Generator
) -> tuple[HistoryStack, HistoryDistillReport]:
    """Level 0 of `stack`, taught by the levels above it, as a stack of its own with the same gate.

    sequences: (T,) symbols or (T, D) vectors, prepared as the stack's observation model wants them;
    unlabelled. The regression's first weights come from torch's global generator; `random` orders the
    sequences.

    Raises
    ------
    UsageError: there is no upper level, or nothing to learn from. TrainingError: the loss is no longer
    finite.
    """
    if len(stack.levels) < 2:
        raise UsageError("the stack has no upper level to learn from; grow one of two levels or more")
    sequences = [row for row in sequences if len(row)]
    if not sequences:
        raise UsageError("all sequences are empty; give some with inputs")
    training, checks = hold_out(sequences, HELD_OUT, random)
    student = copy.deepcopy(stack.level(0)).float().requires_grad_(True)
    before = _alone(stack, stack.level(0))
    targets = upper_states(stack, training)
    flat = np.concatenate(targets)
    mean, spread = flat.mean(0), np.maximum(flat.std(0), SMALLEST_SPREAD)
    regression = nn.Linear(student.width, flat.shape[1])
    _train(student, regression, training, [(row - mean) / spread for row in targets], config, random)
    after = _alone(stack, student)
    wanted = [(row - mean) / spread for row in upper_states(stack, checks)]
    error = _state_error(student, regression, checks, wanted, config)
    return after, _report(before.read(checks), after.read(checks), error)


@torch.no_grad()
def upper_states(stack: HistoryStack, sequences: list[Array]) -> list[Array]:
    """For each sequence (T, W) float32: the upper levels' states after each input, side by side, held."""
    found: list[Array] = [np.zeros((0, 0), np.float32)] * len(sequences)
    for rows in batches(sequences):
        parts: list[list[Array]] = [[] for _ in rows]
        states = stack.start(len(rows))
        for _, inputs, given in windows([sequences[i] for i in rows], stack.observation):
            traces, states = stack.run(inputs, given, states)
            for b, count in enumerate(given.sum(0).tolist()):
                now = np.arange(count)
                held = []
                for trace in traces[1:]:
                    at = trace.at[:, b][trace.given[:, b]].numpy()
                    held.append(trace.states[np.searchsorted(at, now, side="right"), b].float().numpy())
                parts[b].append(np.concatenate(held, 1))
        for row, part in zip(rows, parts, strict=True):
            found[row] = np.concatenate(part)
    return found


@dataclass(frozen=True)
class _Window:
    """states: (T, B, H) after each of the inputs (T, B[, D]). prediction: made before each. given: (T, B).
    wanted: (T, B, W)."""

    states: Tensor
    prediction: Tensor
    inputs: Tensor
    given: Tensor
    wanted: Tensor

    def error(self, regression: nn.Linear) -> Tensor:
        """Squared error of the wanted states, mean over units, summed over the given inputs."""
        errors: Tensor = (regression(self.states) - self.wanted).square().mean(-1)
        return (errors * self.given).sum()


def _train(
    student: Level,
    regression: nn.Linear,
    sequences: list[Array],
    targets: list[Array],
    config: HistoryDistillConfig,
    random: np.random.Generator,
) -> None:
    """Truncated back-propagation over whole sequences, from their beginnings."""

    def losses() -> Iterator[Tensor]:
        passes = (_one_pass(student, sequences, targets, config, random) for _ in itertools.count())
        for window in itertools.islice(itertools.chain.from_iterable(passes), config.steps):
            bits = mean_bits(student.observation, window.prediction, window.inputs, window.given)
            loss = config.own_weight * bits
            if config.state_weight:
                loss = loss + config.state_weight * window.error(regression) / window.given.sum()
            yield loss

    def learning_rate(step: int) -> float:
        return config.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / config.steps))

    for _ in descend(losses(), [*student.parameters(), *regression.parameters()], learning_rate):
        pass


def _one_pass(
    student: Level,
    sequences: list[Array],
    targets: list[Array],
    config: HistoryDistillConfig,
    random: np.random.Generator | None = None,
) -> Iterator[_Window]:
    """Every sequence once, window after window, its state carried on without its gradient."""
    groups = list(batches(sequences, config.batch))
    for group in range(len(groups)) if random is None else random.permutation(len(groups)):
        rows = [sequences[i] for i in groups[group]]
        wanted = [torch.from_numpy(targets[i]).float() for i in groups[group]]
        state = student.start(len(rows))
        for begin in range(0, max(map(len, rows)), config.window):
            part = slice(begin, begin + config.window)
            inputs, given = pad([row[part] for row in rows], student.observation, torch.float32)
            target = nn.utils.rnn.pad_sequence([row[part] for row in wanted])
            last = state.last
            values, state = student.run(inputs, state)
            yield _Window(values[1:], student.predictions(inputs, values, last), inputs, given, target)
            state = state.detach()


@torch.no_grad()
def _state_error(
    student: Level,
    regression: nn.Linear,
    sequences: list[Array],
    targets: list[Array],
    config: HistoryDistillConfig,
) -> float:
    total = count = 0.0
    for window in _one_pass(student, sequences, targets, config):
        total += float(window.error(regression))
        count += float(window.given.sum())
    return total / count


def _alone(stack: HistoryStack, level: Level) -> HistoryStack:
    """A copy of the level under the stack's lowest gate."""
    alone = HistoryStack(stack.observation, stack.cell, stack.gate)
    alone.add(copy.deepcopy(level), stack.thresholds[0])
    return alone


def _report(before: list[History], after: list[History], state_error: float) -> HistoryDistillReport:
    total = sum(len(history.bits) for history in before)

    def mean(histories: list[History]) -> float:
        return float(sum(history.bits.sum() for history in histories)) / total

    def passed(histories: list[History]) -> float:
        return sum(len(history.levels[-1]) for history in histories) / total

    old = [np.delete(np.arange(len(history.bits)), history.levels[-1]) for history in before]
    count = sum(map(len, old))

    def skill(histories: list[History]) -> float:
        bits = sum(float(history.bits[which].sum()) for history, which in zip(histories, old, strict=True))
        return bits / count if count else math.nan

    passes = passed(before), passed(after)
    return HistoryDistillReport(mean(before), mean(after), *passes, skill(before), skill(after), state_error)
