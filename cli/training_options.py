"""Options that the commands that train share, and what they ask for: a config, a corpus."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chunker.config import NGrams

if TYPE_CHECKING:
    from chunker.learning.corpus import Lanes, Source
    from chunker.learning.config import TrainConfig

Command = TypeVar("Command", bound=Callable[..., Any])


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """For click: `128,384` as (128, 384); None where nothing was given."""
    try:
        return None if value is None else tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("give whole numbers with commas between them, like 128,384") from None


_OPTIONS = (
    click.option(
        "-o", "--output", "model", required=True, type=click.Path(path_type=Path), help="Model file."
    ),
    click.option("-f", "--force", is_flag=True, help="Replace an existing model and forget its checkpoint."),
    click.option("--resume", is_flag=True, help="Go on from the checkpoint beside MODEL, if there is one."),
    click.option("--minutes", type=float, help="Budget in minutes. [default: 30]"),
    click.option(
        "--bytes", type=int, help="Budget in bytes instead, rounded up to a window of all streams."
    ),
    click.option("--batch", default=128, help="Streams read side by side."),
    click.option("--window", default=128, help="Bytes through which gradients flow back."),
    click.option("--piece", default=8192, help="Mean bytes between cold starts of a stream; 0: never."),
    click.option("--learning-rate", default=2e-3, help="Highest learning rate."),
    click.option("--warmup", default=0.02, help="Share of the budget in which the learning rate rises."),
    click.option(
        "--decay", default="cosine", type=click.Choice(["cosine", "linear", "none"]), help="How it falls."
    ),
    click.option("--weight-decay", default=0.0, help="Decoupled weight decay of AdamW."),
    click.option("--clip", default=1.0, help="Largest norm of the gradient."),
    click.option("--average", default=0, help="Average the weights over about so many steps; 0: do not."),
    click.option("--ngram-dropout", default=0.0, help="Share of bytes at which n-grams are held back."),
    click.option("--validation", default=0.05, help="Share at the end of each file that is not trained on."),
    click.option("--validate", multiple=True, metavar="FILE", help="More validation text; may be repeated."),
    click.option("--validate-limit", default=1 << 18, help="Bytes of validation text that are scored."),
    click.option("--validations", default=20, help="How often the budget is interrupted to validate."),
    click.option(
        "--patience", default=6, help="Stop after so many validations without improvement; 0: never."
    ),
    click.option("--seed", default=0, help="Seed of everything random."),
    click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, ..."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: torch's choice]"),
    click.option(
        "--precision",
        default="auto",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        help="Products.",
    ),
    click.option("--checkpoint-minutes", default=5.0, help="Minutes between checkpoints."),
    click.option("--log-seconds", default=10.0, help="Seconds between lines of the log."),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
)


_NGRAM_OPTIONS = (
    click.option("--ngrams", callback=numbers, help="Tell level 0 its last n symbols at once, like 2,3,4,5."),
    click.option("--ngram-rows", default=1 << 14, help="Vectors for each n of --ngrams, a power of two."),
    click.option("--ngram-width", default=48, help="Width of such a vector."),
)


def ngram_options(command: Command) -> Command:
    """What a fresh net's level 0 is told besides its latest symbol."""
    for option in reversed(_NGRAM_OPTIONS):
        command = option(command)
    return command


def ngrams_of(o: dict[str, Any]) -> NGrams | None:
    """The n-grams that the options ask for. Raises UsageError."""
    return NGrams(o["ngrams"], o["ngram_rows"], o["ngram_width"]) if o["ngrams"] else None


def training_options(command: Command) -> Command:
    """Target, budget, config, validation and what is shown; in this order in --help."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def config_of(o: dict[str, Any]) -> TrainConfig:
    """The config that the options ask for. Raises UsageError."""
    from chunker.learning.config import TrainConfig

    return TrainConfig(**{field.name: o[field.name] for field in dataclasses.fields(TrainConfig)})


def corpus_of(o: dict[str, Any], config: TrainConfig) -> tuple[list[Source], Lanes | None]:
    """The corpus and the validation lanes that the options ask for. Raises CorpusError, UsageError."""
    from chunker.learning.corpus import open_source, validation_lanes

    sources = [open_source(path, o["validation"]) for path in o["corpus"]]
    texts = [open_source(path) for path in o["validate"]]
    limit = o["validate_limit"]
    if config.bytes is not None:  # with minutes, the trainer bounds the time that validation takes
        limit = min(limit, config.bytes // config.validations)
    return sources, validation_lanes(sources, texts, limit)
