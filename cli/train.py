"""`chunker train CORPUS... -o MODEL`: train a stack and write it as a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chunker.cli.options import complete_model
from chunker.cli.record_training import train_records
from chunker.cli.training import train_to_file
from chunker.cli.training_options import (
    given,
    ngram_options,
    ngrams_of,
    numbers,
    settings_of,
    training_options,
    woken_of,
    woken_options,
)
from chunker.config import CELLS, MODES, RULES, GateRule, StackConfig
from chunker.errors import UsageError
from chunker.learning.config import TrainConfig

if TYPE_CHECKING:
    from chunker.learning.run import Run


@click.command("train", short_help="Train a stack on text of yours.", context_settings={"show_default": True})
@click.argument("corpus", nargs=-1)
@click.option(
    "--levels", default="256,512", callback=numbers, help="Hidden width of each level, lowest first."
)
@click.option("--cell", default="gru", type=click.Choice(CELLS), help="Recurrent cell.")
@click.option("--mode", default="joint", type=click.Choice(MODES), help="How the levels work together.")
@click.option("--rate", type=float, help="Share of its inputs that a level passes on. [default: 0.25]")
@click.option("--gate", default="rate", type=click.Choice(RULES), help="Which inputs a level passes on.")
@click.option("--surprise", type=float, help="Bits above which --gate surprise passes an input on.")
@click.option(
    "--time-code/--no-time-code", default=True, help="Upper levels read the time since their last input."
)
@ngram_options
@click.option(
    "--init",
    metavar="MODEL",
    shell_complete=complete_model,
    help="Begin with the weights and the shape of a model: fine-tuning. --levels may add levels above.",
)
@woken_options
@click.option(
    "--records",
    metavar="RULE",
    help="Make a model of records instead, without torch: lines, json, json:KEY or a separator.",
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="BYTES",
    help="With --records: largest sample. [default: 1 MiB]",
)
@click.option(
    "--net",
    metavar="MODEL",
    help="With --records: also try this model's net: small, or text at half the speed, or a file's.",
)
@training_options
@click.pass_context
def train(ctx: click.Context, /, **options: Any) -> None:
    """Train a stack on files and folders and write MODEL.

    A path may carry a weight: `novels:3` is read three times as often per byte. Beside MODEL lie
    MODEL.jsonl, the log, and until the end MODEL.checkpoint, from which --resume goes on.

    With --woken the contexts of an archive read the corpus first, about 100 KB a second, into MODEL.foretold,
    which stays and serves other models, too. Levels then run, and are scored, as in archives: only at bytes
    of which the contexts are unsure, and together with them.

    With --records the files hold small records of one domain, such as log lines, and MODEL becomes one for
    `chunker records` and chunker.RecordCodec. It takes seconds and prints how many bits the records need
    after samples of several sizes.
    """
    if options["records"] is not None:
        train_records(ctx)
        return
    for name in ("sample", "net"):
        if options[name]:
            raise UsageError(f"--{name} goes with --records")
    from chunker import extras

    extras.require("train", "training")
    from chunker.learning.starting import start_training

    def begin(**files: Any) -> Run:
        settings = settings_of(ctx, StackConfig, TrainConfig)
        files |= woken_of(ctx)
        found = {"gate": _gate(ctx), "ngrams": ngrams_of(ctx)}
        settings |= {name: value for name, value in found.items() if value is not None}
        return start_training(files.pop("data"), settings, init=options["init"], **files)

    train_to_file(ctx, begin)


def _gate(ctx: click.Context) -> GateRule | None:
    """None where nothing is said of it. Raises UsageError."""
    o = ctx.params
    for name in ("rate", "surprise"):
        if o["gate"] != name and o[name] is not None:
            raise UsageError(f"--{name} goes with --gate {name} only")
    if o["gate"] in ("argmax", "word"):
        return GateRule(o["gate"])
    if o["gate"] == "surprise":
        return GateRule("surprise", 1.0 if o["surprise"] is None else o["surprise"])
    if o["rate"] is None:
        return GateRule("rate") if given(ctx, "gate") else None
    return GateRule("rate", o["rate"])
