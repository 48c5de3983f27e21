"""`chunker distill TEACHER CORPUS... -o STUDENT`: train a student on text and on a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import options as shared
from chunker.cli.training_options import corpus_of, ngram_options, ngrams_of, numbers, config_of, training_options
from chunker.cli.report import number
from chunker.cli.training import AnyTrainer, Run
from chunker.config import CELLS
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.learning.rounds import IterativeDistillation
    from chunker.learning.stack import Stack
    from chunker.modelfile import Model


@click.command(
    "distill", short_help="Train a student on text and on a teacher.", context_settings={"show_default": True}
)
@click.argument("teacher", shell_complete=shared.complete_model)
@click.argument("corpus", nargs=-1, required=True)
@click.option(
    "--student",
    default="own",
    metavar="own|fresh|MODEL",
    shell_complete=shared.complete_model,
    help="own: the teacher's level 0 with its weights; fresh: a net that knows nothing; a model: its level 0.",
)
@click.option(
    "--levels",
    callback=numbers,
    help="Widths of a fresh student, or how many of its units another one keeps. [default: the teacher's, or all]",
)
@click.option("--cell", type=click.Choice(CELLS), help="Cell of a fresh student. [default: the teacher's]")
@ngram_options
@click.option("--own-weight", default=1.0, help="Weight of the student's own next input.")
@click.option("--state-weight", default=0.1, help="Weight of the teacher's state, its upper levels'.")
@click.option("--output-weight", default=1.0, help="Weight of the teacher's distribution.")
@click.option("--temperature", default=1.0, help="Softens both distributions where they are compared.")
@click.option("--ramp", default=0.05, help="Share of the budget in which the teacher's weights rise.")
@click.option(
    "--rounds",
    default=1,
    help="Distill so often; in between, the upper levels are retrained on the inputs that are left.",
)
@training_options
@click.pass_context
def distill(ctx: click.Context, /, **options: Any) -> None:
    """Train a student on files and folders and on TEACHER, a model file or a built-in model.

    The student predicts its own next input, the distribution that the teacher gives it, and the state of the
    teacher's upper levels. The budget is for all rounds together. Beside MODEL lie MODEL.jsonl, the log, and
    until the end MODEL.checkpoint, from which --resume goes on.
    """
    from chunker.learning import require_torch

    require_torch()
    _Distill(ctx, options).go()


class _Distill(Run):
    """Trains a student."""

    model_taught: Model

    def trainer(self) -> IterativeDistillation:
        from chunker.learning.rounds import IterativeDistillation
        from chunker.learning.convert import build_stack
        from chunker.learning.config import choose_device
        from chunker.modelfile import load_model

        o = self.options
        lesson, config = self._lesson(), config_of(o)
        device = choose_device(o["device"])
        self.model_taught = load_model(o["teacher"])
        teacher = build_stack(self.model_taught.config, self.model_taught.float_tensors)
        student = self._student(teacher, config.seed)
        sources, lanes = corpus_of(o, config)
        return IterativeDistillation(teacher, student, sources, config, lesson, lanes, device, o["rounds"])

    def _lesson(self) -> Any:
        from chunker.learning.distillation import DistillConfig

        o = self.options
        return DistillConfig(o["own_weight"], o["state_weight"], o["output_weight"], o["temperature"], o["ramp"])

    def _student(self, teacher: Stack, seed: int) -> Stack:
        from chunker.learning.convert import build_stack
        from chunker.learning.distillation import fresh_student, narrower_student
        from chunker.modelfile import load_model

        o = self.options
        if o["student"] != "fresh":
            for name in ("cell", "ngrams"):
                if o[name] is not None:
                    raise UsageError(f"--{name} goes with --student fresh only")
            net = teacher
            if o["student"] != "own":
                model = load_model(o["student"])
                net = build_stack(model.config, model.float_tensors)
            levels = o["levels"] or net.config.levels[:1]
            if len(levels) > 1:
                raise UsageError("--levels names several widths, which only --student fresh can have")
            return narrower_student(net, levels[0], None if net is teacher else teacher)
        config = teacher.config
        levels, cell = o["levels"] or config.levels[:1], o["cell"] or config.cell
        ngrams = ngrams_of(o) or config.ngrams
        return fresh_student(replace(config, levels=tuple(levels), cell=cell, ngrams=ngrams), seed, teacher)

    def more_summary(self, trainer: AnyTrainer) -> dict[str, Any]:
        from chunker.learning.rounds import IterativeDistillation
        from chunker.learning.teach import lineage

        if not isinstance(trainer, IterativeDistillation):
            raise TypeError(f"a {type(trainer).__name__} does not distill")
        taught = self.model_taught
        facts = lineage(trainer, taught.name, taught.fingerprint)
        self._tell(facts["skill"])
        return facts

    def _tell(self, skill: dict[str, Any] | None) -> None:
        if skill is None:
            return
        recovered = skill["recovered"]
        share = "" if recovered is None else f", {recovered:.0%} of the gap recovered"
        self.watch.say(
            f"bits/byte: level 0 {skill['level0']:.4f}, teacher {skill['teacher']:.4f}, "
            f"student {skill['student']:.4f}{share}"
        )
        self.watch.say(
            f"what level 0 expected: {number(skill['old_before'], 4)} bits/byte before, "
            f"{number(skill['old_after'], 4)} after; "
            f"passed up: {skill['passed_up_before']:.4f} before, {skill['passed_up_after']:.4f} after"
        )
