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
    import numpy as np
    import numpy.typing as npt

    from chunker.learning.evaluate import Score
    from chunker.learning.stack import Stack
    from chunker.modelfile import Model

COLUMNS = ("<file", "bytes", "lanes", "bits/byte", "float", "loss %", "<rates")
LANES_AT_ONCE = 256  # more only cost memory
LANE_BYTES = 1 << 14  # a cold start costs some hundred bits


@dataclass(frozen=True)
class Row:
    """One file's figures; `exact` is the float stack's, None without torch or float tensors."""

    name: str
    lanes: int
    twin: Score
    exact: Score | None
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
    from chunker.modelfile import load_model

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
    from chunker.learning import has_torch

    if not model.is_float or not has_torch():
        return None
    from chunker.learning.convert import build_stack

    return build_stack(model.config, model.float_tensors)


def _measure(model: Model, stack: Stack | None, path: str, lanes: int | None, limit: int | None) -> Row:
    import numpy as np

    from chunker.learning.corpus import stack_lanes
    from chunker.learning.evaluate import score_stack, score_twin

    begun = time.perf_counter()
    with files.open_source(path, named_target=True) as source:
        data = source.stream.read(-1 if limit is None else limit)
    if not data:
        raise CorpusError("is empty; name a file with something in it")
    pieces = _pieces(np.frombuffer(data, dtype=np.uint8), lanes)
    twin: Score | None = None
    exact: Score | None = None
    for start in range(0, len(pieces), LANES_AT_ONCE):
        symbols, lengths = stack_lanes(pieces[start : start + LANES_AT_ONCE])
        score = score_twin(model.integer_stack(), symbols, lengths)
        twin = score if twin is None else twin + score
        if stack is not None:
            score = score_stack(stack, symbols, lengths)
            exact = score if exact is None else exact + score
    if twin is None:
        raise CorpusError("holds no lane; name another file")
    return Row(path, len(pieces), twin, exact, time.perf_counter() - begun)


def _pieces(text: npt.NDArray[np.uint8], lanes: int | None) -> list[npt.NDArray[np.uint8]]:
    """The lanes of a text, longest first: of about equal length, in number or of LANE_BYTES."""
    import numpy as np

    count = min(lanes, len(text)) if lanes is not None else -(-len(text) // LANE_BYTES)
    return sorted(np.array_split(text, count), key=len, reverse=True)


def _total(rows: list[Row]) -> Row | None:
    if not rows:
        return None
    first, *others = rows
    twin, exact, seconds, lanes = first.twin, first.exact, first.seconds, first.lanes
    for row in others:
        twin, lanes, seconds = twin + row.twin, lanes + row.lanes, seconds + row.seconds
        if exact is not None and row.exact is not None:
            exact = exact + row.exact
    return Row("total", lanes, twin, exact, seconds)


def _cells(row: Row) -> list[str]:
    from chunker.learning.evaluate import loss_percent

    exact = row.exact
    return [
        files.shown(row.name),
        f"{row.twin.bytes:,}",
        f"{row.lanes:,}",
        number(row.twin.bits_per_byte, 4),
        number(None if exact is None else exact.bits_per_byte, 4),
        number(None if exact is None else loss_percent(row.twin, exact), 3),
        " ".join(f"{rate:.3f}" for rate in row.twin.rates),
    ]


def _to_json(row: Row) -> dict[str, Any]:
    from chunker.learning.evaluate import loss_percent

    exact = row.exact
    return {
        "name": row.name,
        "bytes": row.twin.bytes,
        "lanes": row.lanes,
        "bits_per_byte": round(row.twin.bits_per_byte, 6),
        "float_bits_per_byte": None if exact is None else round(exact.bits_per_byte, 6),
        "loss_percent": None if exact is None else round(loss_percent(row.twin, exact), 4),
        "rates": [round(rate, 6) for rate in row.twin.rates],
        "float_rates": None if exact is None else [round(rate, 6) for rate in exact.rates],
        "seconds": round(row.seconds, 3),
    }
