"""`chunker surprise FILE`: bits per line under a stack, and which lines the stack finds unusual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import files, options
from chunker.cli.guard import each_file, leave
from chunker.cli.report import print_json
from chunker.errors import CorpusError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LONGEST = 4096  # bytes of a line that are read
SMALLEST_SPREAD = 1.0  # bits; lines that differ by less are all alike


@dataclass(frozen=True)
class Line:
    """One line: its bits, the bits above what the level expected to pay, and how unusual that is.

    excess_bits: summed over the characters that cost more than expected. Those that cost less do not make up for
    them: inside an unusual line the level expects to pay much for every character.
    """

    number: int
    bits: float
    excess_bits: float
    events: int
    score: float
    unusual: bool
    text: str


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
@click.option("--width", type=click.IntRange(1), default=96, show_default=True, help="Hidden units.")
@click.option("--steps", type=click.IntRange(1), default=600, show_default=True, help="Of learning the file.")
@click.option("--seed", type=options.SEEDS, default=0, show_default=True, help="Same seed, same result.")
@options.json_option
def surprise(
    paths: tuple[str, ...],
    most: int | None,
    unusual: bool,
    threshold: float,
    width: int,
    steps: int,
    seed: int,
    as_json: bool,
) -> None:
    """Print for each line of FILE the bits that it costs, and mark with ! those that are unusual.

    A predictor learns FILE itself, without labels, so what is regular in it becomes cheap. The score of a line is
    its excess, the bits that its characters cost above those that the predictor expected, in robust
    standard deviations of all lines. Digits that are always random are expected to be dear, so they raise no score.

    Columns: mark, line number, bits, score, the beginning of the line.
    """
    from chunker.learning import require_torch

    require_torch()
    documents: list[dict[str, Any]] = []

    def one(path: str) -> None:
        lines = _measure(path, width, steps, seed, threshold)
        if unusual:
            lines = [line for line in lines if line.unusual]
        if most is not None:
            lines = sorted(lines, key=lambda line: -line.score)[:most]
        if as_json:
            documents.append({"name": path, "lines": [_to_json(line) for line in lines]})
            return
        if len(paths) > 1:
            click.echo(files.shown(path))
        for line in lines:
            mark = "!" if line.unusual else " "
            text = files.shown(line.text)
            click.echo(f"{mark} {line.number:>6} {line.bits:>8.1f} {line.score:>7.1f}  {text[:80]}")

    failures = each_file(paths, one)
    if as_json:
        print_json({"files": documents, "errors": failures})
    leave(failures)


def _measure(path: str, width: int, steps: int, seed: int, threshold: float) -> list[Line]:
    import numpy as np
    import torch

    from chunker.classification.growing import Growth, grow
    from chunker.classification.medium import HistoryGate, Medium

    with files.open_source(path, named_target=True) as source:
        data = source.stream.read()
    texts = data.split(b"\n")
    if texts and not texts[-1]:
        texts.pop()
    if not any(texts):
        raise CorpusError("is empty; name a file with lines in it")
    rows = [np.frombuffer(text[:LONGEST] + b"\n", dtype=np.uint8).astype(np.int64) for text in texts]
    growth = Growth(levels=(width,), steps=steps, held_out=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate = HistoryGate("surprise", 1.0)
        stack, _ = grow(Medium("symbols", 256), rows, growth, gate, "gru", np.random.default_rng(seed))
    histories = stack.read(rows)
    excess = np.array([float(np.maximum(h.bits - h.expected_bits, 0).sum()) for h in histories])
    scores = _scores(excess)
    return [
        Line(
            number=number,
            bits=float(history.bits.sum()),
            excess_bits=float(excess[number - 1]),
            events=len(history.levels[-1]),
            score=float(scores[number - 1]),
            unusual=bool(scores[number - 1] > threshold),
            text=text.decode("utf-8", "replace"),
        )
        for number, (text, history) in enumerate(zip(texts, histories, strict=True), 1)
    ]


def _scores(excess: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance from the median in robust standard deviations (1.4826 times the median distance)."""
    import numpy as np

    middle = np.median(excess)
    spread = max(1.4826 * float(np.median(np.abs(excess - middle))), SMALLEST_SPREAD)
    return np.asarray((excess - middle) / spread)


def _to_json(line: Line) -> dict[str, Any]:
    return {
        "line": line.number,
        "bits": round(line.bits, 3),
        "excess_bits": round(line.excess_bits, 3),
        "events": line.events,
        "score": round(line.score, 3),
        "unusual": line.unusual,
        "text": line.text,
    }
