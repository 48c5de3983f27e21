"""The limits of the method: tasks on which history compression has little or nothing to gain by.

    task            why it is hard                                        history compressor
    2b              every filler is drawn at random, so every one is      in the unbroken stream
                    unexpected and goes up: no level has a shorter lag
    temporal-order  likewise; and two symbols, not one, tell the class    in the unbroken stream, the class
                                                                          as a symbol of it
    adding          inputs and target are real numbers                    does not apply, see below

Hochreiter & Schmidhuber 1997, task 2b with a lag of 100, task 6a, experiment 4. The other nets are those of
`chunker.experiments.baselines`: they get whole sequences, each from a reset state, and gradients through all
of it. All nets have the same budget of sequences and seconds, but the history compressor, once its time is
up, still reads its remaining sequences to their end.

Adding: a stack of this package predicts symbols. Cut into bins, the values are as random as before, all of
them go up, and where two of them fall near a bin's edge the bin of their sum is not determined: what could be
measured would be the bins. So the history compressor is not run on it, and its row says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chunker.config import GateRule
from chunker.data import Adding, Lag, TemporalOrder
from chunker.errors import UsageError
from chunker.experiments import lags
from chunker.experiments.baselines import TESTS, train_baseline
from chunker.experiments.lags import LagExperiment
from chunker.experiments.results import NETS, Row
from chunker.learning.growing import GrowConfig

TASKS = ("2b", "temporal-order", "adding")
SECONDS = 120.0  # of training, for each net and seed, on an idle core
SEQUENCES = 50_000
ADDING = Adding(100)
NOTE = "the stack predicts symbols, here inputs and target are real numbers without regularities"
_COUNTS = (
    1000,
    5000,
    SEQUENCES,
)  # sequences that the history compressor is grown on, until it solves the task
_GROWTH = GrowConfig(gate=GateRule("surprise", 0.2))


def symbol_tasks() -> dict[str, LagExperiment]:
    """The tasks of symbols by name."""
    return {
        "2b": LagExperiment(
            Lag(100, random=True), counts=_COUNTS, tests=TESTS, max_seconds=SECONDS, growth=_GROWTH
        ),
        "temporal-order": LagExperiment(
            TemporalOrder(), counts=_COUNTS, tests=TESTS, max_seconds=SECONDS, growth=_GROWTH
        ),
    }


def run(
    seeds: int,
    seconds: float | None,
    report: Callable[[Row], None],
    tasks: tuple[str, ...] = TASKS,
    nets: tuple[str, ...] = NETS,
) -> list[Row]:
    """Those nets on those tasks with seeds 0 .. seeds - 1; `report` gets every row as soon as it is there.

    seconds: of training for each net and seed, in place of 120. more: task, and what else a net measures.

    Raises
    ------
    UsageError: no such task or net.
    """
    budget = SECONDS if seconds is None else seconds
    rows: list[Row] = []
    for name in tasks:

        def tell(row: Row, name: str = name) -> None:
            rows.append(replace(row, more={"task": name, **row.more}))
            report(rows[-1])

        if name == "adding":
            _adding(seeds, budget, tell, nets)
        elif name in TASKS:
            lags.run(replace(symbol_tasks()[name], max_seconds=budget), seeds, tell, nets)
        else:
            raise UsageError(f"task {name!r} is not known; choose one of {', '.join(TASKS)}")
    return rows


def _adding(seeds: int, seconds: float, report: Callable[[Row], None], nets: tuple[str, ...]) -> None:
    for seed in range(seeds):
        for net in nets:
            if net.startswith("history-compressor"):
                report(Row(net, seed, False, 0, 0.0, {"note": NOTE}, asked=False))
                continue
            _, (solved, sequences, taken) = train_baseline(
                net, ADDING, max_sequences=SEQUENCES, max_seconds=seconds, seed=seed
            )
            report(Row(net, seed, solved, sequences, taken))
