"""`chunker evaluate MODEL FILE...`: bits per byte of a model, and what its integer arithmetic costs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import files, options
from chunker.cli.guard import each_file, leave
from chunker.cli.report import number, print_json, print_table
from chunker.errors import CorpusError

if TYPE_CHECKING:
    from chunker.learning.evaluate import Evaluation
    from chunker.learning.stack import Stack
    from chunker.models import Model

COLUMNS = ("<file", "bytes", "lanes", "bits/byte", "float", "loss %", "<rates")


@dataclass(frozen=True)
class Row:
    """One file's figures."""

    name: str
    figures: Evaluation
    seconds: float


@click.command("evaluate", short_help="Measure bits per byte of a model on files.")
@click.argument("model_name", metavar="MODEL", shell_complete=options.complete_model)
@options.files_argument
@click.option(
    "--lanes",
    type=click.IntRange(1),
    metavar="N",
    help="Cut each file into N lanes, not into lanes of 16 KiB.",
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="BYTES", help="Take only the beginning of each file."
)
@options.json_option
def evaluate(
    model_name: str, paths: tuple[str, ...], lanes: int | None, limit: int | None, as_json: bool
) -> None:
    """Measure bits per byte of MODEL alone, without contexts, on every FILE, each lane starting cold.

    bits/byte is what the coder's integers cost. Where torch is installed and MODEL is a trained stack, float
    is the same for the stack as it was trained, and loss the difference. The rates are the shares of the
    bytes that the levels received, lowest first.
    """
    from chunker.models import load_model

    model = load_model(model_name)
    stack = _float_stack(model)
    rows: list[Row] = []
    failures = each_file(paths, lambda path: rows.append(_measure(model, stack, path, lanes, limit)))
    total = _total(rows)
    if as_json:
        document = {"model": model.name, "fingerprint": model.fingerprint.hex()}
        totals = {"total": _to_json(total)} if total else {}
        print_json({**document, "files": [_to_json(row) for row in rows], **totals, "errors": failures})
    elif rows:
        shown = [*rows, total] if total and len(rows) > 1 else rows
        print_table(COLUMNS, [_cells(row) for row in shown])
    leave(failures)


def _float_stack(model: Model) -> Stack | None:
    """The trained stack, if the model file holds it and torch is there."""
    from chunker import extras

    if not model.is_float or not extras.has("train"):
        return None
    from chunker.learning.stack import Stack

    return Stack.from_model(model)


def _measure(model: Model, stack: Stack | None, path: str, lanes: int | None, limit: int | None) -> Row:
    from chunker.learning.evaluate import evaluate as score

    begun = time.perf_counter()
    with files.open_source(path, named_target=True) as source:
        data = source.stream.read(-1 if limit is None else limit)
    if not data:
        raise CorpusError("is empty; name a file with something in it")
    figures = score(model, bytes(data), stack, lanes)
    return Row(path, figures, time.perf_counter() - begun)


def _total(rows: list[Row]) -> Row | None:
    if not rows:
        return None
    figures, seconds = rows[0].figures, rows[0].seconds
    for row in rows[1:]:
        figures, seconds = figures + row.figures, seconds + row.seconds
    return Row("total", figures, seconds)


def _cells(row: Row) -> list[str]:
    integers, floats = row.figures.integers, row.figures.floats
    return [
        files.shown(row.name),
        f"{integers.bytes:,}",
        f"{row.figures.lanes:,}",
        number(integers.bits_per_byte, 4),
        number(None if floats is None else floats.bits_per_byte, 4),
        number(row.figures.loss_percent, 3),
        " ".join(f"{rate:.3f}" for rate in integers.rates),
    ]


def _to_json(row: Row) -> dict[str, Any]:
    integers, floats, loss = row.figures.integers, row.figures.floats, row.figures.loss_percent
    return {
        "name": row.name,
        "bytes": integers.bytes,
        "lanes": row.figures.lanes,
        "bits_per_byte": round(integers.bits_per_byte, 6),
        "float_bits_per_byte": None if floats is None else round(floats.bits_per_byte, 6),
        "loss_percent": None if loss is None else round(loss, 4),
        "rates": [round(rate, 6) for rate in integers.rates],
        "float_rates": None if floats is None else [round(rate, 6) for rate in floats.rates],
        "seconds": round(row.seconds, 3),
    }
