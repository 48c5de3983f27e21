"""Long time lags: the history compressor beside nets that are trained end to end.

Every net gets the same budget of sequences and seconds. What each gets:

    history-compressor   one unbroken stream, labels as symbols of it; not where sequences begin, which
                         symbols matter, or how long the lag is. It is grown by `chunker.learning.growing` on
                         the sequences drawn so far; if it does not solve the task then, more are drawn.
    the others           as chunker.experiments.baselines says: with whole sequences, each from a reset state,
                         or in the unbroken stream with gradients cut, as the experiment's text says

Solved: the right symbol has a probability above 3/4 at every target of fresh sequences (Hochreiter and
Schmidhuber 1997 ask for an error below 1/4); of labels, given that one is asked for. The sequences are read
as unbroken streams, side by side; the first target of each stream, which starts cold, does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from chunker.config import GateRule
from chunker.data import Automaton, Lag, Lag20, Nested, Task, stream
from chunker.experiments.baselines import SURE, of_asked, train_baseline
from chunker.experiments.results import Row
from chunker.learning.growing import GrowConfig, LevelReport, grow
from chunker.learning.stack import Stack

_CHUNK = 8192  # symbols of all rows per forward call


@dataclass(frozen=True)
class LagExperiment:
    """A task, how the stack grows on it, and the budget.

    counts: sequences drawn at first, and again as long as the task is not solved. tests: fresh sequences that
    must all be right. max_seconds: of training. gradient_cut: steps after which the other nets' gradients are
    cut in the unbroken stream; None: they get whole sequences. until_solved: no other level is tried once two
    or more solve the task; otherwise growing ends by its own rule alone.
    """

    task: Task
    counts: tuple[int, ...]
    tests: int = 1000
    max_seconds: float = 30.0
    gradient_cut: int | None = None
    growth: GrowConfig = field(default_factory=lambda: GrowConfig(gate=GateRule("surprise", 0.2)))
    until_solved: bool = False

    @property
    def max_sequences(self) -> int:
        return self.counts[-1]


LAG_20 = LagExperiment(
    Lag20(),
    counts=(200, 400, 800, 1600, 4900),
    max_seconds=60.0,
    gradient_cut=3,
    growth=GrowConfig(gate=GateRule("surprise", 0.2), window=3, upper_window=3),
)
AUTOMATON = LagExperiment(
    Automaton(run=20),
    counts=(200, 400, 800, 1600, 3200, 9600),
    tests=10_000,
    max_seconds=120.0,
    growth=GrowConfig(gate=GateRule("surprise", 0.2), window=3, upper_window=8, restart=0.1),
)
NESTED = LagExperiment(Nested(), counts=(200, 400, 800), max_seconds=120.0)


def task_2a(lag: int) -> LagExperiment:
    """Task 2a of Hochreiter and Schmidhuber 1997: lag - 1 fillers; the first symbol decides the last."""
    growth = GrowConfig(gate=GateRule("surprise", 0.2))
    if lag < 500:
        return LagExperiment(Lag(lag), counts=(150, 200, 250, 300), growth=growth)
    # one try only; level 0 takes most of the time, so it has a high learning rate and little patience
    growth = replace(growth, window=20, learning_rate=2e-2, least=0.005, patience=2, cool=100)
    return LagExperiment(Lag(lag), counts=(300,), tests=256, growth=growth, until_solved=True)


def history_compressor(
    experiment: LagExperiment, seed: int, max_levels: int | None = None
) -> tuple[Row, list[LevelReport]]:
    """What `grow_stack` tells of the stack that it grows."""
    return grow_stack(experiment, seed, max_levels)[1:]


def grow_stack(
    experiment: LagExperiment, seed: int, max_levels: int | None = None
) -> tuple[Stack, Row, list[LevelReport]]:
    """Grow a stack on ever more sequences until it solves the task, and what its levels did at last.

    The seconds of looking whether it does are not counted.
    """
    rng = np.random.default_rng(seed)
    growth = replace(experiment.growth, seed=seed)
    if max_levels is not None:
        growth = replace(growth, max_levels=max_levels)
    reports: list[LevelReport] = []
    seconds, solved, drawn = 0.0, False, stream(experiment.task, experiment.counts[0], rng)
    symbols, count = drawn.symbols, experiment.counts[0]
    net = "history-compressor" if max_levels is None else f"history-compressor, {max_levels} levels"
    for count in experiment.counts:
        missing = count - len(drawn.starts)
        if missing > 0:
            more = stream(experiment.task, missing, rng)
            symbols = np.concatenate([symbols, more.symbols])
            drawn = replace(drawn, starts=np.concatenate([drawn.starts, more.starts]))
        test = _Test(experiment, seed)
        begun = time.monotonic()
        left = experiment.max_seconds - seconds
        stack, reports = grow(
            symbols,
            experiment.task.symbols,
            replace(growth, max_seconds=left),
            enough=test.passed if experiment.until_solved else None,
        )
        seconds += time.monotonic() - begun - test.seconds
        solved = test.passed(stack)
        if solved or seconds >= experiment.max_seconds:
            break
    more_figures = {
        "levels": len(stack.config.levels),
        "least": round(float(test.probabilities.min()), 4),
        "right": round(float((test.probabilities > SURE).float().mean()), 4),
        "rates": [round(report.rate, 5) for report in reports if report.kept],
    }
    return stack, Row(net, seed, solved, count, seconds, more_figures), reports


class _Test:
    """Whether stacks solve the task, and how long the looking took."""

    def __init__(self, experiment: LagExperiment, seed: int) -> None:
        self._experiment, self._seed = experiment, 10_000 + seed
        self._levels = 0  # of the stack that was looked at last
        self.probabilities = torch.zeros(0)
        self.seconds = 0.0

    def passed(self, stack: Stack) -> bool:
        if len(stack.config.levels) != self._levels:
            begun = time.monotonic()
            one = self._experiment
            self.probabilities = target_probabilities(stack, one.task, one.tests, self._seed)
            self._levels = len(stack.config.levels)
            self.seconds += time.monotonic() - begun
        return bool((self.probabilities > SURE).all())


@torch.no_grad()
def target_probabilities(stack: Stack, task: Task, count: int, seed: int, rows: int = 16) -> torch.Tensor:
    """What the stack gave each target of about `count` fresh sequences, without the first of each row."""
    rng = np.random.default_rng(seed)
    streams = [stream(task, -(-count // rows) + 1, rng) for _ in range(rows)]
    longest = max(len(s.symbols) for s in streams)
    symbols = torch.zeros(longest, rows, dtype=torch.int64)
    counted = torch.zeros(longest, rows, dtype=torch.bool)
    for row, drawn in enumerate(streams):
        symbols[: len(drawn.symbols), row] = torch.from_numpy(drawn.symbols)
        counted[torch.from_numpy(drawn.targets[1:]), row] = True
    state, found = stack.start(rows), []
    for window, mask in zip(
        torch.split(symbols, _CHUNK // rows), torch.split(counted, _CHUNK // rows), strict=True
    ):
        output = stack(window, state)
        state = output.state
        right = window[mask]
        found.append(of_asked(stack.log_probs(output)[mask].exp(), task).gather(1, right.unsqueeze(1))[:, 0])
    return torch.cat(found)


def run(
    experiment: LagExperiment, seeds: int, report: Callable[[Row], None], nets: tuple[str, ...]
) -> list[Row]:
    """All nets with seeds 0 .. seeds - 1; `report` gets every row as soon as it is there."""
    rows = []
    for seed in range(seeds):
        for net in nets:
            if net == "history-compressor":
                row, _ = history_compressor(experiment, seed)
            elif net.startswith("history-compressor"):
                row, _ = history_compressor(experiment, seed, max_levels=int(net.split()[1]))
            else:
                _, (solved, sequences, seconds) = train_baseline(
                    net,
                    experiment.task,
                    max_sequences=experiment.max_sequences,
                    max_seconds=experiment.max_seconds,
                    seed=seed,
                    gradient_cut=experiment.gradient_cut,
                )
                row = Row(net, seed, solved, sequences, seconds)
            rows.append(row)
            report(row)
    return rows
