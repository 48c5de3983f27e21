"""Options that the commands that train share, and the settings that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from chunker.cli.watch import Foretelling
from chunker.config import NGrams
from chunker.errors import UsageError
from chunker.learning.config import (
    PRECISIONS,
    SCHEDULES,
    WOKEN_CONTEXTS,
    DistillConfig,
    TrainConfig,
    WokenConfig,
)

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """For click: `128,384` as (128, 384); None where nothing was given."""
    try:
        return None if value is None else tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("give whole numbers with commas between them, like 128,384") from None


def setting(config: type[Any], name: str, text: str, **more: Any) -> Any:
    """The option of a configuration's field, with the field's default."""
    return click.option("--" + name.replace("_", "-"), default=getattr(config, name), help=text, **more)


def _train(name: str, text: str, **more: Any) -> Any:
    return setting(TrainConfig, name, text, **more)


_OPTIONS: tuple[Any, ...] = (
    click.option(
        "-o", "--output", "model", required=True, type=click.Path(path_type=Path), help="Model file."
    ),
    click.option("-f", "--force", is_flag=True, help="Replace an existing model and forget its checkpoint."),
    click.option("--resume", is_flag=True, help="Go on from the checkpoint beside MODEL, if there is one."),
    click.option("--minutes", type=float, help="Budget in minutes. [default: 30]"),
    click.option("--bytes", type=int, help="Budget in bytes instead, rounded up to a window of all streams."),
    _train("batch", "Streams read side by side."),
    _train("window", "Bytes through which gradients flow back."),
    _train("piece", "Mean bytes between cold starts of a stream; 0: never."),
    _train("learning_rate", "Peak learning rate."),
    _train("warmup", "Share of the budget in which the learning rate rises."),
    _train("schedule", "How the learning rate falls.", type=click.Choice(tuple(SCHEDULES))),
    _train("weight_decay", "Decoupled weight decay of AdamW."),
    _train("clip", "Largest norm of the gradient."),
    _train("average", "Average the weights over about this many steps; 0: do not."),
    _train(
        "ngram_dropout", "Probability, at each byte, of dropping n-gram orders from a random one upwards."
    ),
    _train("validation", "Share at the end of each file that is not trained on."),
    click.option(
        "--list",
        "listed",
        type=click.Path(path_type=Path),
        metavar="TABLE",
        help="More of the corpus: tab-separated, with a header: path, and weight, bytes (the first so many), "
        "use (train or validate).",
    ),
    click.option("--validate", multiple=True, metavar="FILE", help="More validation text; may be repeated."),
    _train("validation_bytes", "Bytes of validation text that are scored."),
    _train("validations", "How many times the budget is interrupted to validate."),
    _train("patience", "Stop after so many validations without improvement; 0: never."),
    _train("seed", "Seed of everything random."),
    click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, ..."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: torch's choice]"),
    _train("precision", "Number format of matrix products.", type=click.Choice(PRECISIONS)),
    click.option("--checkpoint-minutes", default=5.0, help="Minutes between checkpoints."),
    click.option("--log-seconds", default=10.0, help="Seconds between lines of the log."),
    click.option(
        "--plot",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Draw the curves at the end, as `chunker plot` (PNG, SVG, PDF, HTML).",
    ),
    click.option(
        "--tensorboard",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Write the curves for TensorBoard as well.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
)
_NGRAM_OPTIONS: tuple[Any, ...] = (
    click.option(
        "--ngrams", callback=numbers, help="Level 0 also reads its last n bytes at once, for n like 2,3,4,5."
    ),
    click.option(
        "--ngram-word", is_flag=True, help="With --ngrams: it also reads the letters of this word so far."
    ),
    click.option("--ngram-rows", default=NGrams.rows, help="Vectors for each of these, a power of two."),
    click.option("--ngram-width", default=NGrams.width, help="Width of such a vector."),
)
_DISTILL_OPTIONS: tuple[Any, ...] = (
    setting(DistillConfig, "own_weight", "Weight of the student's own next input."),
    setting(DistillConfig, "state_weight", "Weight of the state of the teacher's upper levels."),
    setting(DistillConfig, "output_weight", "Weight of the teacher's distribution."),
    setting(DistillConfig, "temperature", "Softens both distributions where they are compared."),
    setting(DistillConfig, "ramp", "Share of the budget in which the teacher's weights rise."),
)

_WOKEN_OPTIONS = (
    click.option(
        "--woken", is_flag=True, help="Train as archives run it: only where the contexts are unsure."
    ),
    click.option(
        "--wake-contexts",
        default=WokenConfig.contexts,
        type=click.Choice(WOKEN_CONTEXTS),
        help="With --woken: how many contexts.",
    ),
    click.option(
        "--wake-gate", default=WokenConfig.gate, help="With --woken: level 1 wakes below this, in 1/256 nat."
    ),
    click.option(
        "--foretold",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="With --woken: where to keep what the contexts say of the text. [default: MODEL.foretold]",
    ),
)


def _with(options: Iterable[Any]) -> Callable[[Command], Command]:
    """Adds the options in this order to a command's --help."""

    def add(command: Command) -> Command:
        for option in reversed(tuple(options)):
            command = option(command)
        return command

    return add


training_options, ngram_options, distill_options, woken_options = map(
    _with, (_OPTIONS, _NGRAM_OPTIONS, _DISTILL_OPTIONS, _WOKEN_OPTIONS)
)


def given(ctx: click.Context, name: str) -> bool:
    """Whether the command line names an option."""
    return ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def settings_of(ctx: click.Context, *configs: type[Any]) -> dict[str, Any]:
    """The fields of the configurations that the command line names, by name."""
    names = [field.name for config in configs for field in fields(config)]
    return {name: ctx.params[name] for name in names if name in ctx.params and given(ctx, name)}


def ngrams_of(ctx: click.Context) -> NGrams | None:
    """The n-grams that the options ask for. Raises UsageError."""
    o = ctx.params
    if o["ngrams"]:
        return NGrams(o["ngrams"], o["ngram_rows"], o["ngram_width"], o["ngram_word"])
    for name in ("ngram_word", "ngram_rows", "ngram_width"):
        if given(ctx, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --ngrams")
    return None


def woken_of(ctx: click.Context) -> dict[str, Any]:
    """What a run is told of waking. Raises UsageError."""
    o = ctx.params
    if not o["woken"]:
        for name in ("wake_contexts", "wake_gate", "foretold"):
            if given(ctx, name):
                raise UsageError(f"--{name.replace('_', '-')} goes with --woken")
        return {}
    if given(ctx, "piece"):
        raise UsageError(
            "--piece does not go with --woken: streams start cold at the blocks that level 0 read"
        )
    folder = o["foretold"] or o["model"].with_name(o["model"].name + ".foretold")
    config = WokenConfig(o["wake_contexts"], o["wake_gate"])
    return {"woken": config, "foretold": folder, "advance": None if o["quiet"] else Foretelling()}
