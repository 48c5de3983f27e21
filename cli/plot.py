"""`chunker plot LOG...`: the curves of training runs, in one picture."""

from __future__ import annotations

from pathlib import Path

import click

from chunker.cli import options
from chunker.cli.guard import each_file, leave


@click.command("plot", short_help="Draw the curves of training runs.")
@click.argument("paths", metavar="LOG...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "-o",
    "--output",
    "picture",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PNG, SVG, PDF or HTML, by its suffix; replaced if it exists.",
)
@click.option(
    "--over",
    type=click.Choice(("bytes", "seconds")),
    default="bytes",
    show_default=True,
    help="What runs from left to right.",
)
@options.quiet_option
def plot(paths: tuple[str, ...], picture: Path, over: str, quiet: bool) -> None:
    """Draw logs of `chunker train` and `chunker distill`, which lie beside the models as MODEL.jsonl.

    Bits per byte, thin while training, thick on validation text, dashed under the lower levels alone; the
    share of the bytes that the upper levels received; the learning rate. A colour is a run. A log that is
    still being written can be drawn.
    """
    from chunker.views.curves import Log, check_picture, draw_logs, read_log

    check_picture(picture)
    logs: list[Log] = []
    failures = each_file(paths, lambda path: logs.append(read_log(path)))
    if logs:
        draw_logs(logs, picture, over)
        if not quiet:
            points = sum(len(log.points) for log in logs)
            click.echo(f"{picture}: {_count(len(logs), 'run')}, {_count(points, 'point')}")
    leave(failures)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
