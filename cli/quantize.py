"""`chunker quantize MODEL -o SMALLER`: keep only the integers of a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from chunker.cli import options
from chunker.cli.files import check_output, shown
from chunker.errors import UsageError


@click.command("quantize", short_help="Write the integer model of a trained one.")
@click.argument("model_name", metavar="MODEL", shell_complete=options.complete_model)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
def quantize(model_name: str, output: Path, force: bool) -> None:
    """Write MODEL with integer weights only: a quarter of the size, the same fingerprint, the same archives.

    Only `chunker evaluate` and further training need what is left out.
    """
    from chunker.models import load_model, save_model

    check_output(output, force)
    model = load_model(model_name)
    if output.exists() and output.samefile(model.path):
        raise UsageError(
            "the integers would take the place of the floats they are made of; choose another name"
        )
    save_model(output, model.integer_tensors, model.config, model.summary)
    size = output.stat().st_size
    click.echo(f"{shown(str(output))}: {size:,} bytes, fingerprint {model.fingerprint.hex()[:16]}")
