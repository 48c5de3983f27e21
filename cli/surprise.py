"""`chunker surprise FILE`: what each line costs in an archive, and which lines are unlike all others."""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import files, options
from chunker.cli.guard import each_file, leave
from chunker.cli.progress import Progress
from chunker.cli.report import print_json
from chunker.cli.work import Job, Worker
from chunker.errors import CorpusError

if TYPE_CHECKING:
    from chunker.core.backend import Trace

SMALLEST_SPREAD = 1.0  # bits; lines that differ by less are all alike


@dataclass(frozen=True)
class Line:
    """One line, its end included.

    bits: of each of its bytes, after all that comes before it. levels: of each of its bytes; 0: contexts alone,
    1: the first recurrent level woke, 2: the second one took in the byte before, and so on.
    """

    number: int
    text: bytes
    bits: list[float]
    levels: bytes
    score: float
    unusual: bool

    @property
    def woken(self) -> float:
        """The share of its bytes at which a recurrent level was at work."""
        return 1 - self.levels.count(0) / len(self.levels)

    @property
    def shown(self) -> str:
        """Its text."""
        return self.text.removesuffix(b"\n").decode("utf-8", "replace")

    def row(self) -> str:
        """For people."""
        mark, text = "!" if self.unusual else " ", files.shown(self.shown) if self.shown else ""
        figures = f"{sum(self.bits):>8.1f} {self.woken:>4.0%} {self.score:>7.1f}"
        return f"{mark} {self.number:>6} {figures}  {text[:80]}".rstrip()

    def to_json(self, by_byte: bool) -> dict[str, Any]:
        """For --json; by_byte: bits and level of each byte as well."""
        bits = sum(self.bits)
        document = {
            "line": self.number,
            "bits": round(bits, 3),
            "bits_per_byte": round(bits / len(self.bits), 4),
            "woken_share": round(self.woken, 4),
            "score": round(self.score, 3),
            "unusual": self.unusual,
            "text": self.shown,
        }
        if by_byte:
            document |= {"byte_bits": [round(bit, 3) for bit in self.bits], "byte_levels": list(self.levels)}
        return document


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
def surprise(
    paths: tuple[str, ...],
    most: int | None,
    unusual: bool,
    threshold: float,
    by_byte: bool,
    model: str | None,
    preset: str,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print for each line of FILE the bits that it costs in an archive, and mark with ! those that are unusual.

    Nothing is trained: what came before makes a line cheap, and so does what the model knows. The score counts of
    each byte what it costs after the lines before it or after the lines behind it, whichever is less, so that the
    first of many alike is not unusual; it is the distance from the median in robust standard deviations.

    Columns: mark, line number, bits, share of the bytes of which the contexts were too unsure, so that a recurrent
    level woke, score, the beginning of the line.
    """
    if by_byte and not as_json:
        raise click.UsageError("--bytes goes with --json")
    worker = Worker(Job(model=model, threads=threads, quiet=quiet, preset=preset))
    documents: list[dict[str, Any]] = []

    def one(path: str) -> None:
        lines = _measure(path, worker, threshold)
        if unusual:
            lines = [line for line in lines if line.unusual]
        if most is not None:
            lines = sorted(lines, key=lambda line: -line.score)[:most]
        if as_json:
            documents.append({"name": path, "lines": [line.to_json(by_byte) for line in lines]})
            return
        if len(paths) > 1:
            click.echo(files.shown(path))
        for line in lines:
            click.echo(line.row())

    failures = each_file(paths, one)
    if as_json:
        print_json({"files": documents, "errors": failures})
    leave(failures)


def _measure(path: str, worker: Worker, threshold: float) -> list[Line]:
    with files.open_source(path, named_target=True) as source:
        data = source.stream.read()
    if not data.strip(b"\n"):
        raise CorpusError("is empty; name a file with lines in it")
    texts = [text + b"\n" for text in data.removesuffix(b"\n").split(b"\n")]
    with contextlib.closing(Progress(path, 2 * len(data), quiet=worker.job.quiet)) as bar:
        there, back = (_trace(order, worker, bar) for order in (texts, texts[::-1]))
    begins, at = [], 0
    for text in texts:
        begins.append(at)
        at += len(text)
    ends = [*begins[1:], at]
    costs = [
        sum(map(min, there.bits[begin:end], back.bits[at - end : at - begin]))
        for begin, end in zip(begins, ends, strict=True)
    ]
    return [
        Line(number, text, there.bits[begin:end].tolist(), there.levels[begin:end], score, score > threshold)
        for number, (text, begin, end, score) in enumerate(
            zip(texts, begins, ends, _scores(costs), strict=True), 1
        )
    ]


def _trace(texts: list[bytes], worker: Worker, bar: Progress) -> Trace:
    from chunker.codec.tracing import trace

    job = worker.job
    return trace(
        b"".join(texts), worker.settings, model=worker.model, workers=job.threads, advance=bar.advance
    )


def _scores(costs: list[float]) -> list[float]:
    """Distance from the median in robust standard deviations (1.4826 times the median distance)."""
    middle = statistics.median(costs)
    spread = max(1.4826 * statistics.median([abs(cost - middle) for cost in costs]), SMALLEST_SPREAD)
    return [(cost - middle) / spread for cost in costs]
