"""chunker models"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chunker.cli import options
from chunker.cli.files import shown
from chunker.cli.guard import each_file, leave
from chunker.cli.report import number, print_json, print_table

if TYPE_CHECKING:
    from chunker.models import Model

TEACHER = "<teacher"  # a column of its own where a model has one
COLUMNS = ("<model", "<levels", "<cell", "<mode", "parameters", "bytes", "bits/byte", "<fingerprint")


@click.command(short_help="Show the built-in models, or model files.")
@click.argument("paths", metavar="[FILE]...", nargs=-1, shell_complete=options.complete_model)
@options.json_option
def models(paths: tuple[str, ...], as_json: bool) -> None:
    """Show the built-in models, or the model files that are named.

    levels: hidden widths, lowest first. bits/byte: on the validation text of its own training, before
    coding. An archive names its model by the first bytes of the fingerprint. teacher: name and fingerprint of
    the model that a distilled one learnt from.
    """
    from chunker.models import builtin_models, load_model

    found: list[Model] = []
    failures = each_file(paths or builtin_models(), lambda path: found.append(load_model(path)))
    if as_json:
        print_json({"models": [_to_json(model) for model in found], "errors": failures})
    elif found:
        rows, taught = [_row(model) for model in found], [_teacher(model) for model in found]
        if any(taught):
            rows = [[*row, teacher or "-"] for row, teacher in zip(rows, taught, strict=True)]
        print_table((*COLUMNS, TEACHER) if any(taught) else COLUMNS, rows)
    leave(failures)


def _to_json(model: Model) -> dict[str, Any]:
    config = model.config
    return {
        "name": model.name,
        "path": str(model.path),
        "levels": [*config.levels],
        "cell": config.cell,
        "mode": config.mode,
        "parameters": model.parameters,
        "bytes": model.path.stat().st_size,
        "bits_per_byte": _bits_per_byte(model),
        "fingerprint": model.fingerprint.hex(),
        "teacher": model.summary.get("teacher"),
        "summary": model.summary,
    }


def _row(model: Model) -> list[str]:
    config = model.config
    return [
        shown(model.name),
        " ".join(map(str, config.levels)),
        config.cell,
        config.mode,
        f"{model.parameters:,}",
        f"{model.path.stat().st_size:,}",
        number(_bits_per_byte(model), 3),
        model.fingerprint.hex()[:16],
    ]


def _teacher(model: Model) -> str:
    """Name and fingerprint of the teacher; empty if there was none."""
    teacher, name = model.summary.get("teacher"), model.summary.get("teacher_name")
    return f"{shown(str(name))} {teacher[:16]}" if isinstance(teacher, str) else ""


def _bits_per_byte(model: Model) -> float | None:
    """On validation text, as its training summary tells it; None if it does not."""
    value = model.summary.get("validation_bits_per_byte")
    return float(value) if isinstance(value, (int, float)) else None
