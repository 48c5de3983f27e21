"""`chunker surprise FILE`: what each line costs in an archive, and which lines are unlike all others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import files, options
from chunker.cli.guard import each_file, leave
from chunker.cli.progress import Progress
from chunker.cli.report import print_json
from chunker.cli.work import Job, Worker, takes_job

if TYPE_CHECKING:
    from chunker.codec.lines import Line


@click.command("surprise", short_help="Bits per line, and the unusual lines.")
@options.files_argument
@click.option(
    "-n", "--most", type=click.IntRange(0), metavar="N", help="Print only the N most unusual lines."
)
@click.option("--unusual", is_flag=True, help="Print only the lines that are marked.")
@click.option(
    "--threshold", type=click.FloatRange(0), default=5.0, show_default=True, metavar="Z",
    help="Mark lines whose score is above Z.",
)  # fmt: skip
@click.option("--bytes", "by_byte", is_flag=True, help="With --json: bits and level of each byte as well.")
@options.model_options
@options.preset_options
@options.threads_option
@options.quiet_option
@options.json_option
@takes_job
def surprise(
    paths: tuple[str, ...],
    most: int | None,
    unusual: bool,
    threshold: float,
    by_byte: bool,
    job: Job,
    as_json: bool,
) -> None:
    """Print for each line of FILE the bits that it costs in an archive,
    and mark with ! those that are unusual.

    Nothing is trained: what came before makes a line cheap, and so does what the model knows. The score
    counts the bits of words and numbers above what is usual at their places, so that a number which is new in
    every line is not unusual; it is the distance above the median in robust standard deviations, and 0 below
    the median. Of each byte counts what it costs after the lines before it or after those behind it,
    whichever is less: the first of many alike is not unusual.

    Columns: mark, line number, bits, share of the bytes of which the contexts were too unsure, so that a
    recurrent level woke, score, the beginning of the line.
    """
    if by_byte and not as_json:
        raise click.UsageError("--bytes goes with --json")
    worker = Worker(job)
    documents: list[dict[str, Any]] = []

    def one(path: str) -> None:
        lines = _measure(path, worker)
        if unusual:
            lines = [line for line in lines if line.score > threshold]
        if most is not None:
            lines = sorted(lines, key=lambda line: -line.score)[:most]
        if as_json:
            documents.append({"name": path, "lines": [_to_json(line, threshold, by_byte) for line in lines]})
            return
        if len(paths) > 1:
            click.echo(files.shown(path))
        for line in lines:
            click.echo(_row(line, threshold))

    failures = each_file(paths, one)
    if as_json:
        print_json({"files": documents, "errors": failures})
    leave(failures)


def _measure(path: str, worker: Worker) -> list[Line]:
    from chunker.codec.lines import read_lines

    job = worker.job
    with files.open_source(path, named_target=True) as source:
        data = source.stream.read()
    with contextlib.closing(Progress(path, 2 * len(data), quiet=job.quiet)) as bar:
        return read_lines(data, worker.settings, model=worker.model, workers=job.threads, advance=bar.advance)


def _woken(line: Line) -> float:
    """The share of its bytes at which a recurrent level was at work."""
    return 1 - line.levels.count(0) / len(line.levels)


def _text(line: Line) -> str:
    return line.text.removesuffix(b"\n").decode("utf-8", "replace")


def _row(line: Line, threshold: float) -> str:
    """For people."""
    mark, text = "!" if line.score > threshold else " ", _text(line)
    figures = f"{sum(line.bits):>8.1f} {_woken(line):>4.0%} {line.score:>7.1f}"
    return f"{mark} {line.number:>6} {figures}  {(files.shown(text) if text else '')[:80]}".rstrip()


def _to_json(line: Line, threshold: float, by_byte: bool) -> dict[str, Any]:
    """For --json; by_byte: bits and level of each byte as well."""
    bits = sum(line.bits)
    document = {
        "line": line.number,
        "bits": round(bits, 3),
        "bits_per_byte": round(bits / len(line.bits), 4),
        "woken_share": round(_woken(line), 4),
        "score": round(line.score, 3),
        "unusual": line.score > threshold,
        "text": _text(line),
    }
    if by_byte:
        document |= {"byte_bits": [round(bit, 3) for bit in line.bits], "byte_levels": list(line.levels)}
    return document
