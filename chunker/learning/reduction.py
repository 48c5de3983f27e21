"""A sequence reduced to its unexpected inputs with their times, and expanded again.

The predictors are fed what the expander will know, the prediction in place of every expected input, so errors
do not add up: symbols come back exactly, every channel of a vector within the tolerance that the gates state.
It is computed in float64, so on one kind of machine; for a `Stack`, `chunker.core.history` uses integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chunker.errors import UsageError
from chunker.learning.gate import unexpected
from chunker.learning.history import HistoryStack
from chunker.learning.observation import Array


@dataclass(frozen=True)
class Reduced:
    """What remains of a sequence of `length` inputs.

    times: (E,) int64, increasing, of the inputs that the lowest level did not predict. failed: (E,) int64,
    how many levels failed on each, from the lowest. values: (N,) or (N, D), the inputs on which all levels
    failed, in order. tolerance: largest error of a channel after expanding, in standard deviations; 0 for
    symbols.
    """

    length: int
    times: Array
    failed: Array
    values: Array
    tolerance: float


def tolerance_of(stack: HistoryStack) -> float:
    """Within what `expand` gives the inputs back, in standard deviations of a channel; 0 for symbols.

    Raises
    ------
    UsageError: the gate bounds bits and not errors, so there is no tolerance.
    """
    if stack.observation.is_symbols:
        return 0.0
    if stack.gate.rule == "surprise":
        raise UsageError("a gate in bits states no tolerance; use the rule tolerance or rate to expand")
    return max(stack.thresholds)


def compress_history(stack: HistoryStack, sequence: Array) -> Reduced:
    """Reduce one prepared sequence, (T,) symbols or (T, D) vectors.

    Raises
    ------
    UsageError: see `tolerance_of`.
    """
    tolerance = tolerance_of(stack)
    walk = _Walk(stack)
    times, failed, values = [], [], []
    truth = torch.from_numpy(np.ascontiguousarray(sequence))
    for t in range(len(sequence)):
        depth, value = walk.first_success(truth[t])
        walk.step(t, depth, value)
        if depth:
            times.append(t)
            failed.append(depth)
        if depth == len(stack.levels):
            values.append(sequence[t])
    shape = (0,) if stack.observation.is_symbols else (0, stack.observation.size)
    kept = np.array(values) if values else np.zeros(shape, sequence.dtype)
    return Reduced(len(sequence), np.array(times, np.int64), np.array(failed, np.int64), kept, tolerance)


def expand(stack: HistoryStack, reduced: Reduced) -> Array:
    """The sequence, with the same stack on the same kind of machine: see `Reduced.tolerance`.

    Raises
    ------
    UsageError: the reduced sequence is inconsistent, or of another stack.
    """
    walk = _Walk(stack)
    depths = dict(zip(reduced.times.tolist(), reduced.failed.tolist(), strict=True))
    values = iter(reduced.values)
    found = stack.observation.empty(reduced.length)
    for t in range(reduced.length):
        depth = depths.get(t, 0)
        if not 0 <= depth <= len(stack.levels):
            raise UsageError("the reduced sequence is of a deeper stack; expand it with the one that made it")
        if depth == len(stack.levels):
            given = next(values, None)
            if given is None:
                raise UsageError("the reduced sequence lacks values; expand what compress_history returned")
            value = torch.as_tensor(given)
        else:
            value = stack.observation.best(walk.prediction(depth))
        walk.step(t, depth, value)
        found[t] = value
    result: Array = found.numpy()
    return result


class _Walk:
    """All levels, one input at a time."""

    def __init__(self, stack: HistoryStack) -> None:
        self.stack = stack
        self._states = stack.start(1)
        self._last_at = [-1] * len(stack.levels)  # times of the last inputs

    @torch.no_grad()
    def prediction(self, index: int) -> Tensor:
        """(V,) or (2 D,): what a level predicts as its next input."""
        state = self._states[index]
        return self.stack.level(index).predict(state.h, state.last)[0]

    def first_success(self, truth: Tensor) -> tuple[int, Tensor]:
        """How many levels fail on the input, and what stands for it: a prediction, or if all fail itself."""
        stack = self.stack
        for index, threshold in enumerate(stack.thresholds):
            if self._last_at[index] < 0:
                continue  # a level's first input is always unexpected
            prediction = self.prediction(index)
            best = stack.observation.best(prediction)
            one = prediction.unsqueeze(0), truth.unsqueeze(0)
            close = not bool(unexpected(stack.observation, *one, stack.gate, threshold)[0])
            if close and (not stack.observation.is_symbols or bool(best == truth)):
                return index, best
        return len(stack.levels), truth

    @torch.no_grad()
    def step(self, t: int, depth: int, value: Tensor) -> None:
        """Let all levels up to the one that predicted the input read what stands for it."""
        for index in range(min(depth + 1, len(self._states))):
            times = torch.full((1, 1), max(t - self._last_at[index], 1))
            level = self.stack.level(index)
            _, self._states[index] = level.run(value.view(1, 1, *value.shape), self._states[index], times)
            self._last_at[index] = t
