"""Distilling the upper level into the lower one, until level 0 bridges the lag alone (Schmidhuber 1992).

    teacher   a stack of two levels, grown on the stream as in `lags`
    student   a net of level 0's size, new. It reads the same stream in windows of 3 symbols, keeps its state,
              and learns to predict the next symbol and, by a linear readout that is thrown away afterwards,
              the state of the teacher's upper level, which is held between that level's inputs
    control   the same net, the same number of windows, without the teacher

No gradient goes back further than 3 symbols: the student can learn to carry the information over the lag only
because the teacher's state is its target at every symbol. Solved: as in `lags`, by level 0 alone. Both have
the same budget of sequences, windows and seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from chunker.config import StackConfig
from chunker.data import Task, stream
from chunker.experiments.baselines import SURE
from chunker.experiments.lags import LAG_20, LagExperiment, target_probabilities, task_2a
from chunker.experiments.results import Row
from chunker.learning.fitting import descend
from chunker.learning.growing import grow
from chunker.learning.level import Level
from chunker.learning.stack import Stack

NETS = ("distilled-level-0", "level-0-alone")
_PIECE = 512  # symbols of each lane that the teacher reads at once


@dataclass(frozen=True)
class Plan:
    """How to distill: width of the student, lanes of the stream, window in symbols, weight of the regression
    (squared error of the normalised state, mean of its units) beside the next symbol's nats."""

    width: int = 64
    lanes: int = 32
    window: int = 3
    weight: float = 4.0
    learning_rate: float = 3e-3
    windows: int = 30_000
    test_every: int = 1000
    max_seconds: float = 240.0


def experiment_of(lag: int) -> LagExperiment:
    """The teacher's task: lag-20 for 20, and task 2a for other lags."""
    return LAG_20 if lag == 20 else task_2a(lag)


def run(
    lag: int,
    seeds: int,
    report: Callable[[Row], None],
    plan: Plan | None = None,
    nets: tuple[str, ...] = NETS,
) -> list[Row]:
    """Both nets with seeds 0 .. seeds - 1; `report` gets every row as soon as it is there."""
    plan, rows = plan or Plan(), []
    for seed in range(seeds):
        teacher, sequences, symbols = _teacher(experiment_of(lag), seed)
        for net in nets:
            rows.append(_student(net, experiment_of(lag), teacher, symbols, sequences, plan, seed))
            report(rows[-1])
    return rows


def _teacher(experiment: LagExperiment, seed: int) -> tuple[Stack, int, Tensor]:
    """A stack that solves the task, or the best that the budget gave; sequences, and the symbols of them."""
    rng, symbols, drawn = np.random.default_rng(seed), np.zeros(0, dtype=np.int64), 0
    for count in experiment.counts:
        symbols = np.concatenate([symbols, stream(experiment.task, count - drawn, rng).symbols])
        drawn = count
        stack, _ = grow(symbols, experiment.task.symbols, replace(experiment.growth, seed=seed))
        if bool((target_probabilities(stack, experiment.task, 256, 20_000 + seed) > SURE).all()):
            break
    return stack, drawn, torch.from_numpy(symbols)


def _student(
    net: str,
    experiment: LagExperiment,
    teacher: Stack,
    symbols: Tensor,
    sequences: int,
    plan: Plan,
    seed: int,
) -> Row:
    torch.manual_seed(1000 + seed)
    begun, tested = time.monotonic(), 0.0
    task: Task = experiment.task
    student = Stack(StackConfig(levels=(plan.width,), mode="faithful", symbols=task.symbols))
    level = student.level(0)
    length = len(symbols) // plan.lanes
    lanes = symbols[: length * plan.lanes].view(plan.lanes, length).t().contiguous()
    wanted = _upper_states(teacher, lanes) if net == "distilled-level-0" else None
    regressor = nn.Linear(plan.width, wanted.shape[-1]) if wanted is not None else None
    trained = [*level.parameters(), *(regressor.parameters() if regressor is not None else ())]
    probabilities, solved, windows = torch.zeros(1), False, 0
    losses = _losses(level, lanes, plan, regressor, wanted)
    for windows in descend(losses, trained, plan.learning_rate):
        over = windows >= plan.windows or time.monotonic() - begun - tested >= plan.max_seconds
        if over or windows % plan.test_every == 0:
            paused = time.monotonic()
            for count in (64, experiment.tests):
                probabilities = target_probabilities(student, task, count, 10_000 + seed)
                solved = bool((probabilities > SURE).all())
                if not solved:
                    break
            tested += time.monotonic() - paused
            if solved or over:
                break
    more = {"right": round(float((probabilities > SURE).float().mean()), 4), "windows": windows}
    return Row(net, seed, solved, sequences, time.monotonic() - begun - tested, more)


def _losses(
    level: Level, lanes: Tensor, plan: Plan, regressor: nn.Linear | None, wanted: Tensor | None
) -> Iterator[Tensor]:
    """The loss of each window, pass after pass; the state is carried on, its gradient is not."""
    while True:
        state = level.start(plan.lanes)
        for at in range(0, len(lanes) - plan.window + 1, plan.window):
            part = slice(at, at + plan.window)
            values, state = level.run(lanes[part], state)
            logits = level.logits(values[:-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), lanes[part].flatten())
            if regressor is not None and wanted is not None:
                loss = loss + plan.weight * (regressor(values[1:]) - wanted[part]).square().mean()
            yield loss
            state = state.detach()


@torch.no_grad()
def _upper_states(teacher: Stack, lanes: Tensor) -> Tensor:
    """(T, B, H): the state of the teacher's top level after each symbol, its units normalised."""
    state, parts = teacher.start(lanes.shape[1]), []
    for window in torch.split(lanes, _PIECE):
        output = teacher(window, state)
        parts.append(output.states[-1])
        state = output.state
    states = torch.cat(parts)
    return (states - states.mean((0, 1))) / (states.std((0, 1)) + 1e-3)
