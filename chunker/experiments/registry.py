"""Every experiment by name: what it shows, what was published, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chunker import extras
from chunker.errors import UsageError
from chunker.experiments.results import NETS, Row

if TYPE_CHECKING:
    from chunker.experiments.lags import LagExperiment

Report = Callable[[Row], None]


@dataclass(frozen=True)
class Options:
    """What a user may set. lag, corridor: of the experiments that have one. seconds: of training for each net
    and seed, in place of the experiment's own. nets: which of the experiment's; empty: all."""

    seeds: int = 1
    lag: int | None = None
    corridor: int | None = None
    seconds: float | None = None
    nets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """shows: in one line. published: what the sources report. nets: that take part, in order.

    lag, corridor: the defaults, None for an experiment without one. run: all nets and seeds; reports every
    row.
    """

    shows: str
    published: str
    nets: tuple[str, ...]
    run: Callable[[Options, Report], list[Row]]
    lag: int | None = None
    corridor: int | None = None


def run_experiment(name: str, options: Options, report: Report) -> list[Row]:
    """Run one of EXPERIMENTS; `report` gets every row as soon as it is there.

    Raises
    ------
    UsageError: no such experiment or net, or a lag or corridor where there is none.
    """
    if name not in EXPERIMENTS:
        raise UsageError(f"experiment {name!r} is not known; choose one of {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    if options.lag is not None and experiment.lag is None:
        raise UsageError(f"experiment {name} has no --lag")
    if options.corridor is not None and experiment.corridor is None:
        raise UsageError(f"experiment {name} has no --corridor")
    if options.lag is not None and options.lag < 3:
        raise UsageError("a lag is at least 3")
    unknown = [net for net in options.nets if net not in experiment.nets]
    if unknown:
        raise UsageError(f"net {unknown[0]!r} is not one of {', '.join(experiment.nets)}")
    lag = experiment.lag if options.lag is None else options.lag
    corridor = experiment.corridor if options.corridor is None else options.corridor
    nets = options.nets or experiment.nets
    return experiment.run(replace(options, lag=lag, corridor=corridor, nets=nets), report)


def _lag_20(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.lags import LAG_20

    return _lags(LAG_20, options, report)


def _automaton(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.lags import AUTOMATON

    return _lags(AUTOMATON, options, report)


def _nested(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.lags import NESTED

    return _lags(NESTED, options, report)


def _task_2a(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.lags import task_2a

    return _lags(task_2a(options.lag or 100), options, report)


def _lags(experiment: LagExperiment, options: Options, report: Report) -> list[Row]:
    from chunker.experiments.lags import run

    if options.seconds is not None:
        experiment = replace(experiment, max_seconds=options.seconds)
    return run(experiment, options.seeds, report, options.nets)


def _lag(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.streaming import run

    return run(options.lag or 1000, options.seeds, report)


def _entropy(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.entropy import run

    return run(options.seeds, options.seconds, report, nets=options.nets)


def _limit(task: str) -> Callable[[Options, Report], list[Row]]:
    def run_it(options: Options, report: Report) -> list[Row]:
        from chunker.experiments.limits import run

        return run(options.seeds, options.seconds, report, (task,), options.nets)

    return run_it


def _distill(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.distillation import Plan, run

    plan = Plan() if options.seconds is None else Plan(max_seconds=options.seconds)
    return run(options.lag or 20, options.seeds, report, plan, options.nets)


def _online(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.online import continuous, two_nets

    rows = []
    for seed in range(options.seeds):
        for net in options.nets:
            learn = two_nets if net == "two-nets-online" else continuous
            rows.append(learn(seed, max_seconds=options.seconds or 120.0))
            report(rows[-1])
    return rows


def _first_symbol(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.first_symbol import Plan, run

    return run(options.lag or 100, options.seeds, report, Plan(seconds=options.seconds), options.nets)


def _gradients(options: Options, report: Report) -> list[Row]:
    from chunker.experiments.gradients import run

    return run(options.lag or 1000, options.seeds, options.seconds, report, options.nets)


def _maze(noise: bool = False, active: bool = False) -> Callable[[Options, Report], list[Row]]:
    def run_it(options: Options, report: Report) -> list[Row]:
        extras.require("rl", "this experiment")
        from chunker.experiments.t_maze import Maze, run

        maze = Maze(50 if options.corridor is None else options.corridor, noise, active)
        return run(maze, options.seeds, options.seconds, report, options.nets)

    return run_it


_OWN = ("history-compressor",)
_GATES = ("history-memory", "history-memory, gate 2 bits")
_MAZE_NETS = (
    "history-memory",
    "history-memory, each step",
    "history-memory, ppo",
    "lstm",
    "lstm, on events",
    "lstm-chrono, on events",
    "no-memory",
    "no-memory, on events",
)
EXPERIMENTS = {
    "lag-20": Experiment(
        "20 steps between cause and class, gradients cut after 3 steps, one unbroken stream",
        "Schmidhuber 1992: 13 of 17 runs in under 5,000 sequences; plain net: none in 1,000,000",
        NETS,
        _lag_20,
    ),
    "automaton": Experiment(
        "the class of a string is its first letter that is no a, and each letter lasts 20 symbols",
        "Schmidhuber 1991: under 10,000 strings; plain nets: none in 10,000,000",
        NETS,
        _automaton,
    ),
    "2a": Experiment(
        "the first symbol comes again after --lag steps, with other symbols in a fixed order between",
        "Hochreiter & Schmidhuber 1997, lag 100: chunker 33 % (32,400 sequences), LSTM 100 % (5,040)",
        NETS,
        _task_2a,
        lag=100,
    ),
    "lag": Experiment(
        "lags of any length, in memory that does not grow with them",
        "Schmidhuber 1993 claims credit assignment over 1,200 steps; the setup is not known",
        _OWN,
        _lag,
        lag=1000,
    ),
    "gradients": Experiment(
        "how much an output depends on inputs up to --lag steps before, and in a stack on ticks before",
        "Hochreiter 1991: in recurrent nets it vanishes or explodes exponentially with the lag",
        NETS,
        _gradients,
        lag=1000,
    ),
    "nested": Experiment(
        "regularities of regularities: two levels are not enough, and growing stops at three",
        "none",
        ("history-compressor", "history-compressor, 2 levels", *NETS[1:]),
        _nested,
    ),
    "entropy": Experiment(
        "archives beside the true entropy of sources that are known (ppmd needs: pip install pyppmd)",
        "none",
        (*_OWN, "xz", "ppmd"),
        _entropy,
    ),
    "distill": Experiment(
        "level 0 alone bridges the lag, once the upper level was distilled into it",
        "Schmidhuber 1992: afterwards the lower net alone bridges the 20 steps",
        ("distilled-level-0", "level-0-alone"),
        _distill,
        lag=20,
    ),
    "online": Experiment(
        "lag-20 with both nets learning at once: the lower takes over; or the upper moves with surprise",
        "Schmidhuber 1992: 13 of 17 runs in under 5,000 sequences, 4 in under 35,000",
        ("two-nets-online", "continuous"),
        _online,
    ),
    "first-symbol": Experiment(
        "the class of --lag symbols is the first of them; what follows is regular (needs scikit-learn)",
        "none",
        ("history-classifier", "lstm", "gru", "gzip-1nn"),
        _first_symbol,
        lag=100,
    ),
    "t-maze": Experiment(
        "a sign at the start of a corridor tells which way to turn at its end (needs gymnasium)",
        "Bakker 2002: LSTM, corridors to 70; Ni et al. 2023: transformers, corridors to 1,500",
        _MAZE_NETS,
        _maze(),
        corridor=50,
    ),
    "t-maze-active": Experiment(
        "the same, and the agent has to go back first to see the sign (needs gymnasium)",
        "none",
        _MAZE_NETS,
        _maze(active=True),
        corridor=50,
    ),
    "t-maze-noise": Experiment(
        "a limit of the method: a random bit at each step of the corridor; a wider gate keeps it out",
        "Bakker 2002: LSTM, two random numbers in the corridor",
        (*_GATES, "lstm", "no-memory"),
        _maze(noise=True),
        corridor=50,
    ),
    "2b": Experiment(
        "a limit of the method: random symbols between, so nothing can be left out",
        "Hochreiter & Schmidhuber 1997: chunker fails, LSTM 5,680 sequences",
        NETS,
        _limit("2b"),
    ),
    "temporal-order": Experiment(
        "a limit of the method: the order of two symbols among random ones",
        "Hochreiter & Schmidhuber 1997: LSTM solves it",
        NETS,
        _limit("temporal-order"),
    ),
    "adding": Experiment(
        "a limit of the method: the sum of two marked numbers among random ones",
        "Hochreiter & Schmidhuber 1997: LSTM solves it",
        NETS,
        _limit("adding"),
    ),
}
