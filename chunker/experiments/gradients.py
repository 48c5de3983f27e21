"""How far back gradients reach: why the method exists (Hochreiter 1991).

Task 2a: the first symbol of a sequence comes again at its end, after a long lag. How much a net's output z
for that symbol at step t depends on what it read k steps before is

    g(k) = || dz / da(t - k) ||,    a(t): the pre-activations of step t, without the recurrent product

In a recurrent net g(k) is a product of k Jacobians, which vanishes or explodes, unless they are close to one.
The top level of a stack reads only what the levels below it did not expect: the symbol that came a thousand
steps before is one or a few of its own ticks away, and the product has so many factors.

All is computed in float64, for in float32 the smallest of these numbers are 0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from chunker.data import Task, stream
from chunker.experiments import lags
from chunker.experiments.baselines import Net, new_net, train_baseline
from chunker.experiments.results import Row
from chunker.learning.recurrence import recur
from chunker.learning.stack import Stack

SEQUENCES = 16  # over which norms are averaged
POINTS = 25  # numbers of steps, evenly spread on a logarithmic scale


def steps_of(lag: int) -> list[int]:
    """Numbers of steps from 1 to the lag."""
    return sorted({round(float(k)) for k in np.geomspace(1, lag, min(POINTS, lag))})


def net_norms(net: Net, task: Task, rng: np.random.Generator) -> Tensor:
    """(T,) g(1), g(2), .. g(T) of a net, averaged over sequences of T + 1 symbols, the last being the target.

    rng: draws the sequences.
    """
    net = copy.deepcopy(net).double()
    drawn = [stream(task, 1, rng).symbols for _ in range(SEQUENCES)]
    symbols = torch.from_numpy(np.stack(drawn, 1))
    a = nn.functional.embedding(symbols[:-1], net.input) + net.bias
    a = a.detach().requires_grad_()
    hs, _ = recur(net.cell, a, *net.start(SEQUENCES), net.recurrent, None)
    right = net.read(hs[-1]).gather(1, symbols[-1:].T).sum()  # the rows do not touch each other
    (slopes,) = torch.autograd.grad(right, a)
    norms: Tensor = slopes.norm(dim=-1).mean(1).flip(0)
    return norms


def top_level_norms(
    stack: Stack, task: Task, lag: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Of the top level, for its last tick before a target, the one before that, ..: the mean number of steps
    that it lies before the target, at most `lag`, and the mean of g. rng: draws the sequences."""
    drawn = stream(task, SEQUENCES, rng)
    symbols = torch.from_numpy(drawn.symbols)
    top, level = stack.growing, copy.deepcopy(stack.level(stack.growing)).double()
    with torch.no_grad():
        output = stack(symbols.unsqueeze(1), stack.start(1))
        at = output.events[top][:, 0].nonzero()[:, 0]
        below = output.states[top - 1][at].double() if level.below is not None else None
        times = torch.diff(at, prepend=at.new_tensor([-1])).clamp_min(1).unsqueeze(1) if top else None
        a = level.preactivation(symbols[at].unsqueeze(1), times, below)
    a.requires_grad_()
    state = level.start(1)
    hs, _ = recur(level.cell, a, state.h, state.c, level.recurrent, level.candidate_bias)
    found: list[list[tuple[int, float]]] = []
    for target in drawn.targets[1:].tolist():  # before the first one the level is cold
        last = int((at < target).sum()) - 1
        right = level.logits(hs[last, 0])[symbols[target]]
        (slopes,) = torch.autograd.grad(right, a, retain_graph=True)
        norms = slopes[:, 0].norm(dim=-1)
        tick = 0
        while tick <= last and target - int(at[last - tick]) <= lag:
            if tick == len(found):
                found.append([])
            found[tick].append((target - int(at[last - tick]), float(norms[last - tick])))
            tick += 1
    return [(float(np.mean([s for s, _ in each])), float(np.mean([g for _, g in each]))) for each in found]


def run(
    lag: int, seeds: int, seconds: float | None, report: Callable[[Row], None], nets: Sequence[str]
) -> list[Row]:
    """All nets with seeds 0 .. seeds - 1, untrained and after task 2a's budget."""
    experiment = lags.task_2a(lag)
    if seconds is not None:
        experiment = replace(experiment, max_seconds=seconds)
    rows = []
    for seed in range(seeds):
        for name in nets:
            rng = np.random.default_rng([seed, 2])
            if name == "history-compressor":
                row = _of_stack(experiment, lag, seed, rng)
            else:
                row = _of_net(name, experiment, lag, seed, rng)
            rows.append(row)
            report(row)
    return rows


def _of_net(name: str, experiment: lags.LagExperiment, lag: int, seed: int, rng: np.random.Generator) -> Row:
    torch.manual_seed(seed)
    steps = steps_of(lag)
    task = experiment.task
    untrained = net_norms(new_net(name, task, lag), task, rng)
    net, outcome = train_baseline(
        name, task, max_sequences=experiment.max_sequences, max_seconds=experiment.max_seconds, seed=seed
    )
    trained = net_norms(net, task, rng)
    more = {
        "steps": steps,
        "norms": [_short(trained[k - 1]) for k in steps if k <= len(trained)],
        "untrained": [_short(untrained[k - 1]) for k in steps if k <= len(untrained)],
    }
    return Row(name, seed, *outcome, more)


def _of_stack(experiment: lags.LagExperiment, lag: int, seed: int, rng: np.random.Generator) -> Row:
    stack, row, _ = lags.grow_stack(experiment, seed)
    found = top_level_norms(stack, experiment.task, lag, rng)
    ticks = steps_of(len(found))
    more = {
        "ticks": ticks,
        "steps": [round(found[tick - 1][0], 1) for tick in ticks],
        "norms": [_short(found[tick - 1][1]) for tick in ticks],
    }
    return Row(row.net, seed, row.solved, row.sequences, row.seconds, more)


def _short(norm: float | Tensor) -> float:
    """Three digits of it."""
    return float(f"{float(norm):.2e}")
