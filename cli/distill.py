"""`chunker distill TEACHER CORPUS... -o STUDENT`: train a student on text and on a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chunker.cli import options as shared
from chunker.cli.report import number
from chunker.cli.training import train_to_file
from chunker.cli.training_options import (
    distill_options,
    given,
    ngram_options,
    ngrams_of,
    numbers,
    settings_of,
    training_options,
    woken_of,
    woken_options,
)
from chunker.cli.watch import Watch
from chunker.config import CELLS
from chunker.learning.config import DistillConfig, TrainConfig

if TYPE_CHECKING:
    from chunker.learning.run import Run
    from chunker.learning.stack import Stack


@click.command(
    "distill", short_help="Train a student on text and on a teacher.", context_settings={"show_default": True}
)
@click.argument("teacher", shell_complete=shared.complete_model)
@click.argument("corpus", nargs=-1)
@click.option(
    "--student",
    default="own",
    metavar="own|fresh|MODEL",
    shell_complete=shared.complete_model,
    help="own: the teacher's level 0; fresh: a net with random weights; a model: its level 0.",
)
@click.option(
    "--levels",
    callback=numbers,
    help="Widths of a fresh student, or how many units another one keeps. [default: the teacher's, or all]",
)
@click.option("--cell", type=click.Choice(CELLS), help="Cell of a fresh student. [default: the teacher's]")
@ngram_options
@distill_options
@click.option(
    "--rounds",
    default=1,
    help="How many times to distill; in between, the upper levels are retrained on the inputs that are left.",
)
@woken_options
@training_options
@click.pass_context
def distill(ctx: click.Context, /, **options: Any) -> None:
    """Train a student on files and folders and on TEACHER, a model file or a built-in model.

    The student predicts its own next input, the distribution that the teacher gives it, and the state of the
    teacher's upper levels. The budget is for all rounds together. Beside MODEL lie MODEL.jsonl, the log, and
    until the end MODEL.checkpoint, from which --resume goes on.

    With --woken both run as in archives, and the student learns how probable the mixture of the teacher and
    the contexts holds each bit.
    """
    from chunker import extras

    extras.require("train", "distilling")
    from chunker.learning.starting import start_distillation
    from chunker.models import load_model

    def begin(**files: Any) -> Run:
        teacher = load_model(options["teacher"])
        settings = settings_of(ctx, DistillConfig, TrainConfig)
        if given(ctx, "rounds"):
            settings["rounds"] = options["rounds"]
        woken = woken_of(ctx)
        if woken:  # a woken student learns no states
            settings.setdefault("state_weight", 0.0)
        chosen = any(given(ctx, name) for name in ("student", "levels", "cell", "ngrams"))
        resumes = files["resume"] is not None and files["resume"].exists()
        student = _student(ctx, teacher) if chosen or not resumes else None
        return start_distillation(teacher, files.pop("data"), student, settings, **files, **woken)

    train_to_file(ctx, begin, _tell)


def _student(ctx: click.Context, teacher: Any) -> Stack:
    from chunker.learning.distillation import choose_student
    from chunker.learning.stack import Stack

    o = ctx.params
    kind = o["student"] if o["student"] in ("own", "fresh") else Stack.load(o["student"])
    return choose_student(Stack.from_model(teacher), kind, o["levels"], o["cell"], ngrams_of(ctx), o["seed"])


def _tell(stack: Stack, watch: Watch) -> None:
    skill = stack.summary.get("skill")
    if skill is None:
        return
    recovered = skill["recovered"]
    share = "" if recovered is None else f", {recovered:.0%} of the gap recovered"
    watch.say(
        f"bits/byte: level 0 {skill['level0']:.4f}, teacher {skill['teacher']:.4f}, "
        f"student {skill['student']:.4f}{share}"
    )
    watch.say(
        f"what level 0 expected: {number(skill['old_before'], 4)} bits/byte before, "
        f"{number(skill['old_after'], 4)} after; "
        f"passed up: {skill['passed_up_before']:.4f} before, {skill['passed_up_after']:.4f} after"
    )
