"""`chunker train CORPUS... -o MODEL`: train a stack and write it as a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chunker.cli.training_options import corpus_of, ngram_options, ngrams_of, numbers, config_of, training_options
from chunker.cli.training import Run
from chunker.config import CELLS, MODES, RULES, GateRule, StackConfig
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.learning.trainer import Trainer


@click.command("train", short_help="Train a stack on text of yours.", context_settings={"show_default": True})
@click.argument("corpus", nargs=-1, required=True)
@click.option(
    "--levels", default="256,512", callback=numbers, help="Hidden width of each level, lowest first."
)
@click.option("--cell", default="gru", type=click.Choice(CELLS), help="Recurrent cell.")
@click.option("--mode", default="joint", type=click.Choice(MODES), help="How the levels work together.")
@click.option("--rate", type=float, help="Share of its inputs that a level passes on. [default: 0.25]")
@click.option("--gate", default="rate", type=click.Choice(RULES), help="What counts as unexpected.")
@click.option("--surprise", type=float, help="Bits above which --gate surprise passes an input on.")
@click.option(
    "--time-code/--no-time-code", default=True, help="Tell upper levels the time since their input."
)
@ngram_options
@training_options
@click.pass_context
def train(ctx: click.Context, /, **options: Any) -> None:
    """Train a stack on files and folders and write MODEL.

    A path may carry a weight: `novels:3` is read three times as often per byte. Beside MODEL lie
    MODEL.jsonl, the log, and until the end MODEL.checkpoint, from which --resume goes on.
    """
    from chunker.learning import require_torch

    require_torch()
    _Train(ctx, options).go()


class _Train(Run):
    """Trains a stack that knows nothing yet."""

    def trainer(self) -> Trainer:
        import torch

        from chunker.learning.corpus import Streams
        from chunker.learning.config import choose_device
        from chunker.learning.stack import Stack
        from chunker.learning.trainer import Trainer

        config, config = _config(self.options), config_of(self.options)
        device = choose_device(self.options["device"])
        sources, lanes = corpus_of(self.options, config)
        streams = Streams(sources, config.batch, config.window, config.piece, config.seed)
        torch.manual_seed(config.seed)
        return Trainer(Stack(config), streams, config, lanes, device)


def _config(o: dict[str, Any]) -> StackConfig:
    if o["gate"] != "rate" and o["rate"] is not None:
        raise UsageError("--rate goes with --gate rate only")
    if o["gate"] != "surprise" and o["surprise"] is not None:
        raise UsageError("--surprise goes with --gate surprise only")
    if o["gate"] == "surprise":
        gate = GateRule("surprise", 1.0 if o["surprise"] is None else o["surprise"])
    elif o["gate"] == "rate":
        gate = GateRule("rate", 0.25 if o["rate"] is None else o["rate"])
    else:
        gate = GateRule(o["gate"])
    return StackConfig(
        levels=o["levels"],
        cell=o["cell"],
        mode=o["mode"],
        gate=gate,
        time_code=o["time_code"],
        ngrams=ngrams_of(o),
    )
