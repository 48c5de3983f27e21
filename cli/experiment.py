"""`chunker experiment NAME`: the method's experiments, with the nets that they are compared with."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import options
from chunker.cli.report import print_json, print_table
from chunker.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chunker.experiments.results import Row


@click.command("experiment", short_help="Run one of the method's experiments.")
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="Say what each shows and what was published.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Seeds 0 .. N - 1.")
@click.option("--lag", type=int, help="Steps of the experiments that have a lag.")
@click.option("--corridor", type=int, help="Cells of the mazes.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Seconds of training for each net and seed."
)
@click.option("--net", "nets", multiple=True, metavar="NET", help="Only this net; may be repeated.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: torch's choice]")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the rows (PNG, SVG, PDF, HTML)."
)
@options.json_option
def experiment(
    name: str | None,
    listing: bool,
    seeds: int,
    lag: int | None,
    corridor: int | None,
    seconds: float | None,
    nets: tuple[str, ...],
    threads: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run the experiment NAME: one row for each net and seed, whether and how fast it solved the task.

    Every net gets the same budget; a seed that fails is printed as failed. `--json` prints a list of rows.
    """
    from chunker import extras
    from chunker.experiments.registry import EXPERIMENTS, Options, run_experiment

    if listing or name is None:
        if not listing:
            raise UsageError(f"which one? {', '.join(EXPERIMENTS)}; --list says what they are")
        _list(as_json)
        return
    extras.require("train", "an experiment")
    if plot is not None:
        from chunker.views.curves import check_picture

        check_picture(plot)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        if not as_json:
            click.echo(_line(row))

    run_experiment(name, Options(seeds, lag, corridor, seconds, nets), report)
    if as_json:
        print_json([row.to_json() for row in rows])
    else:
        click.echo()
        print_table(*_summary(rows))
    if plot is not None:
        _draw(name, rows, plot)


def _list(as_json: bool) -> None:
    from chunker.experiments.registry import EXPERIMENTS

    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "shows": e.shows,
                    "published": e.published,
                    "nets": list(e.nets),
                    "lag": e.lag,
                    "corridor": e.corridor,
                }
                for name, e in EXPERIMENTS.items()
            ]
        )
        return
    for name, e in EXPERIMENTS.items():
        click.echo(
            f"{name}\n    shows      {e.shows}\n    published  {e.published}\n"
            f"    nets       {', '.join(e.nets)}"
        )


def _line(row: Row) -> str:
    more = "".join(f"  {key} {_shown(value)}" for key, value in row.more.items())
    return f"seed {row.seed}  {row.net}: {row.outcome}{_cost(row)}{more}"


def _cost(row: Row) -> str:
    return f", {row.sequences:,} sequences, {row.seconds:.1f} s" if row.asked else ""


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _group(row: Row) -> str:
    """Rows of one net in one task, source or lag belong together."""
    return " ".join([row.net, *(str(row.more[key]) for key in ("task", "source") if key in row.more)])


def _summary(rows: list[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Columns, and a line for each net: how many seeds it solved, and the medians of those that it did solve.

    Archives have one more column: how much longer they are than the entropy asks for, the median of all
    seeds.
    """
    columns: tuple[str, ...] = ("<net", "solved", "of", "sequences", "seconds")
    archives = any("percent" in row.more for row in rows)
    if archives:
        columns += ("over the entropy",)
    found: list[list[str]] = []
    for group in dict.fromkeys(map(_group, rows)):
        mine = [row for row in rows if _group(row) == group]
        good = [row for row in mine if row.solved]
        cells = ["-", "-"]
        if good:
            sequences, seconds = ([getattr(row, name) for row in good] for name in ("sequences", "seconds"))
            cells = [f"{statistics.median(sequences):,.0f}", f"{statistics.median(seconds):.1f}"]
        counts = [str(len(good)), str(len(mine))] if mine[0].asked else [mine[0].outcome, "-"]
        found.append([group, *counts, *cells])
        if archives:
            found[-1].append(f"{statistics.median(row.more['percent'] for row in mine):+.2f} %")
    return columns, found


def _draw(name: str, rows: list[Row], path: Path) -> None:
    """Sequences of every row by net, on a logarithmic scale; filled where the task was solved. Of gradients
    their norms over the steps."""
    from matplotlib.figure import Figure

    from chunker.views.curves import save

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    if any("norms" in row.more for row in rows):
        _draw_norms(axes, rows)
    else:
        _draw_sequences(axes, rows)
    axes.set_title(name)
    save(figure, path)


def _draw_sequences(axes: Axes, rows: list[Row]) -> None:
    groups = list(dict.fromkeys(map(_group, rows)))
    for place, group in enumerate(groups):
        mine = [row for row in rows if _group(row) == group]
        for solved, marker in ((True, "o"), (False, "x")):
            points = [row for row in mine if row.solved is solved]
            axes.plot([place] * len(points), [max(row.sequences, 1) for row in points], f"{marker}C{place}")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_yscale("log")
    axes.set_ylabel("sequences (o solved, x failed)")


def _draw_norms(axes: Axes, rows: list[Row]) -> None:
    """A line for each row, dotted for the untrained net; the ticks of a stack's top level are points."""
    colours = {net: f"C{place}" for place, net in enumerate(dict.fromkeys(row.net for row in rows))}
    for row in rows:
        colour, label = colours[row.net], row.net if row.seed == 0 else None
        if "ticks" in row.more:
            label = label and f"{label}, top level's ticks"
            axes.plot(row.more["steps"], row.more["norms"], "o-", color=colour, label=label)
            continue
        axes.plot(row.more["steps"], row.more["norms"], color=colour, label=label)
        label = label and f"{label}, untrained"
        axes.plot(row.more["steps"], row.more["untrained"], ":", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-30)
    axes.set_xlabel("steps before the target")
    axes.set_ylabel("norm of the gradient")
    axes.legend(fontsize="small")
