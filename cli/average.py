"""`chunker average MODEL MODEL .. -o MEAN`: the mean of models that were trained from one beginning."""

from __future__ import annotations

from pathlib import Path

import click

from chunker.cli import options
from chunker.cli.files import check_output, shown
from chunker.errors import UsageError


@click.command("average", short_help="Write the mean of models trained from one beginning.")
@click.argument("names", metavar="MODEL MODEL ..", nargs=-1, shell_complete=options.complete_model)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option("--weights", help="One for each model, such as 1,2; equal ones where it is left out.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
def average(names: tuple[str, ...], output: Path, weights: str | None, force: bool) -> None:
    """Write the mean of the weights of models that went on from the same one (`chunker train --init`): often
    better than each of them, and as fast.

    Compare them by `chunker evaluate`, or by archives of texts that none of them was trained on.
    """
    from chunker.models import averaging, load_model, save_model

    check_output(output, force)
    models = [load_model(name) for name in names]
    chosen = None if weights is None else _numbers(weights)
    tensors = averaging.average(models, chosen)
    save_model(output, tensors, models[0].config, averaging.lineage(models, chosen))
    made = load_model(output)
    click.echo(
        f"{shown(str(output))}: {output.stat().st_size:,} bytes, fingerprint {made.fingerprint.hex()[:16]}"
    )


def _numbers(weights: str) -> list[float]:
    try:
        return [float(each) for each in weights.split(",")]
    except ValueError:
        raise UsageError(f"--weights {weights} are no numbers: write them as 1,2") from None
