"""What the upper levels of a stack know, distilled into the lowest one; over symbols and vectors alike.

    inputs --> student (trained) --> state h --linear--> the upper levels' states, normalised   (MSE)
       |                 '--> the next input   (bits)
       '-----> the stack (frozen), its upper levels' states held between their ticks

Schmidhuber 1992, section 4: the automatizer A learns its own next input and the chunker C's hidden state, until
it predicts what only C could, and passes up less. What C puts out is linear in its state, so whoever knows the
state knows that, too.
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

from chunker.classification.growing import hold_out, mean_bits
from chunker.classification.history import History, HistoryLevel, HistoryStack, batches, pad, windows
from chunker.classification.inputs import Array
from chunker.errors import TrainingError, UsageError
from chunker.learning.config import check_weights

HELD_OUT = 0.1  # of the sequences, if there are 20 or more; else all of them measure
SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True)
class HistoryLesson:
    """How level 0 is taught.

    own: weight of its own next input, in bits per channel. state: weight of the squared error of the upper
    levels' normalised states, mean over units; 0: no teacher, as a control. steps: gradient steps.
    window: inputs that gradients reach back; states are carried on from the beginning of each sequence.
    batch: sequences side by side. rate: Adam's, falling to 0.

    Raises
    ------
    UsageError: a value that makes no sense.
    """

    own: float = 1.0
    state: float = 4.0
    steps: int = 1000
    window: int = 32
    batch: int = 32
    rate: float = 3e-3

    def __post_init__(self) -> None:
        check_weights(self.own, self.state)
        if min(self.steps, self.window, self.batch) < 1 or not 0 < self.rate < math.inf:
            raise UsageError("a lesson has at least one step, window and batch, and a rate above 0")


@dataclass(frozen=True)
class LessonReport:
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
    stack: HistoryStack, sequences: list[Array], lesson: HistoryLesson, random: np.random.Generator
) -> tuple[HistoryStack, LessonReport]:
    """Level 0 of `stack`, taught by the levels above it, as a stack of its own with the same gate.

    sequences: (T,) symbols or (T, D) vectors, prepared as the stack's medium wants them; unlabelled. The
    regression's first weights come from torch's global generator; `random` orders the sequences.

    Raises
    ------
    UsageError: there is no upper level, or nothing to learn from. TrainingError: the loss is no longer finite.
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
    _train(student, regression, training, [(row - mean) / spread for row in targets], lesson, random)
    after = _alone(stack, student)
    wanted = [(row - mean) / spread for row in upper_states(stack, checks)]
    error = _state_error(student, regression, checks, wanted, lesson)
    return after, _report(before.read(checks), after.read(checks), error)


@torch.no_grad()
def upper_states(stack: HistoryStack, sequences: list[Array]) -> list[Array]:
    """For each sequence (T, W) float32: all upper levels' states side by side, after each input, held between
    their ticks."""
    found: list[Array] = [np.zeros((0, 0), np.float32)] * len(sequences)
    for rows in batches(sequences):
        parts: list[list[Array]] = [[] for _ in rows]
        carries = stack.start(len(rows))
        for offset, inputs, given in windows([sequences[i] for i in rows], stack.medium):
            earlier = [carry.h.unsqueeze(0) for carry in carries]
            ticks = stack.run(inputs, given, offset, carries)
            states = [torch.cat([old, tick.states]) for old, tick in zip(earlier, ticks, strict=True)][1:]
            for b, count in enumerate(given.sum(0).tolist()):
                now = np.arange(offset, offset + count)
                held = []
                for tick, level in zip(ticks[1:], states, strict=True):
                    at = tick.at[:, b][tick.given[:, b]].numpy()
                    held.append(level[np.searchsorted(at, now, side="right"), b].float().numpy())
                parts[b].append(np.concatenate(held, 1))
        for row, part in zip(rows, parts, strict=True):
            found[row] = np.concatenate(part)
    return found


@dataclass(frozen=True)
class _Window:
    """states (T, B, H) after each of the inputs (T, B[, D]), which are given (T, B); `before` and `last` are
    the states and inputs one earlier. wanted: (T, B, W)."""

    states: Tensor
    before: Tensor
    inputs: Tensor
    last: Tensor
    given: Tensor
    wanted: Tensor

    def error(self, regression: nn.Linear) -> Tensor:
        """Squared error of the wanted states, mean over units, summed over the given inputs."""
        errors: Tensor = (regression(self.states) - self.wanted).square().mean(-1)
        return (errors * self.given).sum()


def _train(
    student: HistoryLevel,
    regression: nn.Linear,
    sequences: list[Array],
    targets: list[Array],
    lesson: HistoryLesson,
    random: np.random.Generator,
) -> None:
    """Truncated back-propagation over whole sequences, from their beginnings."""
    trained = [*student.parameters(), *regression.parameters()]
    optimizer = torch.optim.Adam(trained, lr=lesson.rate, betas=(0.9, 0.99))
    passes = (_one_pass(student, sequences, targets, lesson, random) for _ in itertools.count())
    for step, window in enumerate(itertools.islice(itertools.chain.from_iterable(passes), lesson.steps)):
        for group in optimizer.param_groups:
            group["lr"] = lesson.rate * (0.5 + 0.5 * math.cos(math.pi * step / lesson.steps))
        bits = mean_bits(student, window.before, window.last, window.inputs, window.given)
        loss = lesson.own * bits
        if lesson.state:
            loss = loss + lesson.state * window.error(regression) / window.given.sum()
        if not bool(torch.isfinite(loss)):
            raise TrainingError("the loss of the student is no longer finite; lower the learning rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()


def _one_pass(
    student: HistoryLevel,
    sequences: list[Array],
    targets: list[Array],
    lesson: HistoryLesson,
    random: np.random.Generator | None = None,
) -> Iterator[_Window]:
    """Every sequence once, window after window, its state carried on without its gradient."""
    medium = student.medium
    groups = list(batches(sequences, lesson.batch))
    for group in range(len(groups)) if random is None else random.permutation(len(groups)):
        rows = [sequences[i] for i in groups[group]]
        wanted = [torch.from_numpy(targets[i]).float() for i in groups[group]]
        h, c = student.start(len(rows))
        last = medium.empty(1, len(rows), dtype=torch.float32)
        for begin in range(0, max(map(len, rows)), lesson.window):
            part = slice(begin, begin + lesson.window)
            inputs, given = pad([row[part] for row in rows], medium, torch.float32)
            target = nn.utils.rnn.pad_sequence([row[part] for row in wanted])
            hs, cs = student(inputs, None, h, c)
            before, earlier = torch.cat([h[None], hs[:-1]]), torch.cat([last, inputs[:-1]])
            yield _Window(hs, before, inputs, earlier, given, target)
            h, c = hs[-1].detach(), None if cs is None else cs[-1].detach()
            last = inputs[-1:]


@torch.no_grad()
def _state_error(
    student: HistoryLevel,
    regression: nn.Linear,
    sequences: list[Array],
    targets: list[Array],
    lesson: HistoryLesson,
) -> float:
    total = count = 0.0
    for window in _one_pass(student, sequences, targets, lesson):
        total += float(window.error(regression))
        count += float(window.given.sum())
    return total / count


def _alone(stack: HistoryStack, level: HistoryLevel) -> HistoryStack:
    """A copy of the level under the stack's lowest gate."""
    alone = HistoryStack(stack.medium, stack.cell, stack.gate)
    alone.add(copy.deepcopy(level), stack.thresholds[0])
    return alone


def _report(before: list[History], after: list[History], state_error: float) -> LessonReport:
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
    return LessonReport(mean(before), mean(after), *passes, skill(before), skill(after), state_error)
