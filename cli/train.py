"""`chunker train CORPUS... -o MODEL`: train a stack and write it as a model file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from chunker.cli.files import shown
from chunker.cli.guard import Stopped, describe
from chunker.cli.watch import Watch
from chunker.config import CELLS, MODES, RULES, GateRule, StackConfig
from chunker.errors import CheckpointError, ChunkerError, UsageError

if TYPE_CHECKING:
    from chunker.learning.meter import LogPoint
    from chunker.learning.recipe import Recipe
    from chunker.learning.trainer import Trainer

# Figures of the saved weights that go into the model's summary.
_SUMMARY = ("bits_per_char", "validation_bits_per_char", "validation", "rates")
_DEFAULT_MINUTES = 30.0
# Options that a resumed run may change; all others must be as they were.
_FREE = {"minutes", "characters", "learning_rate", "clip", "patience", "validations", "warmup", "decay"}
_FREE |= {"checkpoint_minutes", "log_seconds", "validate_limit"}


def _numbers(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("give whole numbers with commas between them, like 128,384") from None


@click.command("train", short_help="Train a stack on text of yours.", context_settings={"show_default": True})
@click.argument("corpus", nargs=-1, required=True)
@click.option("-o", "--output", "model", required=True, type=click.Path(path_type=Path), help="Model file.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing model and forget its checkpoint.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside MODEL, if there is one.")
@click.option(
    "--levels", default="256,512", callback=_numbers, help="Hidden width of each level, lowest first."
)
@click.option("--cell", default="gru", type=click.Choice(CELLS), help="Recurrent cell.")
@click.option("--mode", default="joint", type=click.Choice(MODES), help="How the levels work together.")
@click.option("--rate", type=float, help="Share of its inputs that a level passes on. [default: 0.25]")
@click.option("--gate", default="rate", type=click.Choice(RULES), help="What counts as unexpected.")
@click.option("--surprise", type=float, help="Bits above which --gate surprise passes an input on.")
@click.option(
    "--time-code/--no-time-code", default=True, help="Tell upper levels the time since their input."
)
@click.option("--minutes", type=float, help="Budget in minutes. [default: 30]")
@click.option("--characters", type=int, help="Budget in characters instead.")
@click.option("--batch", default=128, help="Streams read side by side.")
@click.option("--window", default=128, help="Characters through which gradients flow back.")
@click.option("--piece", default=8192, help="Mean characters between cold starts of a stream; 0: never.")
@click.option("--learning-rate", default=2e-3, help="Highest learning rate.")
@click.option("--warmup", default=0.02, help="Share of the budget in which the learning rate rises.")
@click.option(
    "--decay", default="cosine", type=click.Choice(["cosine", "linear", "none"]), help="How it falls."
)
@click.option("--weight-decay", default=0.0, help="Decoupled weight decay of AdamW.")
@click.option("--clip", default=1.0, help="Largest norm of the gradient.")
@click.option("--average", default=0, help="Average the weights over about so many steps; 0: do not.")
@click.option("--validation", default=0.05, help="Share at the end of each file that is not trained on.")
@click.option("--validate", multiple=True, metavar="FILE", help="More validation text; may be repeated.")
@click.option("--validate-limit", default=1 << 18, help="Characters of validation text that are scored.")
@click.option("--validations", default=20, help="How often the budget is interrupted to validate.")
@click.option("--patience", default=6, help="Stop after so many validations without improvement; 0: never.")
@click.option("--seed", default=0, help="Seed of everything random.")
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: torch's choice]")
@click.option(
    "--precision", default="auto", type=click.Choice(["auto", "float32", "bfloat16"]), help="Products."
)
@click.option("--checkpoint-minutes", default=5.0, help="Minutes between checkpoints.")
@click.option("--log-seconds", default=10.0, help="Seconds between lines of the log.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def train(ctx: click.Context, /, **options: Any) -> None:
    """Train a stack on files and folders and write MODEL.

    A path may carry a weight: `novels:3` is read three times as often per character. Beside MODEL lie
    MODEL.jsonl, the log, and until the end MODEL.checkpoint, from which --resume goes on.
    """
    from chunker.learning import require_torch

    require_torch()
    _Run(ctx, options).go()


class _Run:
    """One call of the command, from its options to the model file."""

    def __init__(self, ctx: click.Context, options: dict[str, Any]) -> None:
        from chunker.learning.checkpoint import checkpoint_path

        self.ctx, self.options = ctx, options
        self.model: Path = options["model"]
        self.checkpoint = checkpoint_path(self.model)
        self.log = self.model.with_name(self.model.name + ".jsonl")
        self.saved_at = time.monotonic()
        self.stopped_by: int | None = None
        self.watch = Watch(quiet=options["quiet"])

    def go(self) -> None:
        import torch

        from chunker.learning.checkpoint import load_checkpoint

        self._refuse_bad_target()
        if self.options["threads"]:
            torch.set_num_threads(self.options["threads"])
        saved = None
        if self.options["resume"] and self.checkpoint.exists():
            saved = load_checkpoint(self.checkpoint)
            self._take_over(saved[1]["options"])
        if self.options["minutes"] is None and self.options["characters"] is None:
            self.options["minutes"] = _DEFAULT_MINUTES
        trainer = self._trainer()
        if saved:
            trainer.restore(*saved)
        else:
            self.checkpoint.unlink(missing_ok=True)
        self._trim_log(trainer.characters)
        self.watch.say(self._opening(trainer, bool(saved)))
        self.watch.start()
        with _caught_signals(self), contextlib.closing(self.watch):
            trainer.run(self._report, lambda: self._tick(trainer), self.options["log_seconds"])
        if not trainer.finished:
            self._save_checkpoint(trainer)
            self.watch.say(f"checkpoint written after {trainer.characters:,} characters; go on with --resume")
            if self.stopped_by == signal.SIGINT:
                raise KeyboardInterrupt
            raise Stopped(self.stopped_by or signal.SIGTERM)
        self._save_model(trainer)

    # ---- before training -----------------------------------------------------------------------------

    def _refuse_bad_target(self) -> None:
        """Find out now, not after hours, that the model cannot be written. Raises UsageError, OSError."""
        if self.options["force"] and self.options["resume"]:
            raise UsageError("--force starts afresh and --resume goes on; give one of them")
        if self.model.is_dir():
            raise UsageError(f"{shown(str(self.model))} is a folder; name a file with -o")
        if self.options["resume"]:
            if self.model.exists() and not self.checkpoint.exists():
                raise UsageError(f"{shown(str(self.model))} is finished; train it anew with --force")
        elif not self.options["force"]:
            for path in (self.model, self.checkpoint):
                if path.exists():
                    raise UsageError(
                        f"{shown(str(path))} exists; replace it with --force or go on with --resume"
                    )
        probe = self.model.with_name(f".{os.getpid()}.part")
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except FileNotFoundError:
            raise UsageError(f"the folder {shown(str(self.model.parent))} does not exist; make it") from None
        except OSError as exc:
            raise UsageError(
                f"nothing can be written to {shown(str(self.model.parent))} ({exc.strerror}); choose another -o"
            ) from exc

    def _take_over(self, before: dict[str, Any]) -> None:
        """Options not given are those of the checkpoint; those given must not contradict it.

        Raises CheckpointError.
        """
        counted = "characters" if before["minutes"] is None else "minutes"
        for name, value in before.items():
            given = self.ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
            here = self.options[name]
            if not given:
                self.options[name] = tuple(value) if isinstance(value, list) else value
            elif name in ("minutes", "characters") and name != counted:
                raise CheckpointError(f"the budget was in {counted} so far; give it in {counted}, or --force")
            elif name not in _FREE and (list(here) if isinstance(here, tuple) else here) != value:
                option = "--" + name.replace("_", "-")
                raise CheckpointError(f"{option} was {_spelled(value)} so far; leave it out, or --force")

    def _trainer(self) -> Trainer:
        import torch

        from chunker.learning.corpus import Streams, open_source, validation_lanes
        from chunker.learning.recipe import choose_device
        from chunker.learning.stack import Stack
        from chunker.learning.trainer import Trainer

        o = self.options
        config, recipe = _config(o), _recipe(o)
        device = choose_device(o["device"])
        sources = [open_source(path, o["validation"]) for path in o["corpus"]]
        texts = [open_source(path) for path in o["validate"]]
        limit = o["validate_limit"]
        if recipe.characters is not None:  # with minutes, the trainer bounds the time that validation takes
            limit = min(limit, recipe.characters // recipe.validations)
        lanes = validation_lanes(sources, texts, limit)
        streams = Streams(sources, recipe.batch, recipe.window, recipe.piece, recipe.seed)
        torch.manual_seed(recipe.seed)
        return Trainer(Stack(config), streams, recipe, lanes, device)

    def _opening(self, trainer: Trainer, resumed: bool) -> str:
        weights = sum(p.numel() for p in trainer.stack.parameters())
        how = f"resumed after {trainer.characters:,} characters" if resumed else "from the beginning"
        return (
            f"training {weights:,} weights on {trainer.streams.characters:,} characters, {how}, "
            f"{trainer.device.type}, {'bfloat16' if trainer.bfloat16 else 'float32'}"
        )

    # ---- during training -----------------------------------------------------------------------------

    def _tick(self, trainer: Trainer) -> bool:
        """Called after every step; whether to stop."""
        self.watch.advance(trainer.share)
        if time.monotonic() - self.saved_at > 60 * self.options["checkpoint_minutes"]:
            try:
                self._save_checkpoint(trainer)
            except OSError as error:  # hours of training are worth more than one checkpoint
                self.watch.say(f"no checkpoint: {describe(error)}; training goes on")
                self.saved_at = time.monotonic()
        return self.stopped_by is not None and not trainer.finished

    def _save_checkpoint(self, trainer: Trainer) -> None:
        from chunker.learning.checkpoint import save_checkpoint

        tensors, facts = trainer.snapshot()
        kept = ("corpus", "model", "force", "resume", "device", "threads", "quiet")
        options = {k: v for k, v in self.options.items() if k not in kept}
        save_checkpoint(self.checkpoint, tensors, {**facts, "options": options})
        self.saved_at = time.monotonic()

    def _report(self, point: LogPoint) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(point.to_json()) + "\n")
        self.watch.show(point)

    def _trim_log(self, characters: int) -> None:
        """Drop lines that were written after the checkpoint: they will be written again."""
        if not self.log.exists():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut by a crash
                if json.loads(line)["characters"] <= characters:
                    kept.append(line + "\n")
        self.log.write_text("".join(kept), encoding="utf-8")

    # ---- after training ------------------------------------------------------------------------------

    def _save_model(self, trainer: Trainer) -> None:
        import torch

        from chunker.learning.convert import to_file
        from chunker.modelfile import save_stack

        config, tensors, figures = trainer.result()
        summary = {
            "sources": [
                {"name": s.name, "bytes": sum(f.size for f in s.files), "weight": s.weight}
                for s in trainer.streams.sources
            ],
            "recipe": dataclasses.asdict(trainer.recipe),
            "seed": trainer.recipe.seed,
            "characters": trainer.characters,
            "seconds": round(trainer.seconds, 1),
            **{name: figures.get(name) for name in _SUMMARY},
            "torch": torch.__version__,
        }
        try:
            save_stack(self.model, to_file(tensors), config, summary)
        except (OSError, ChunkerError):  # a full disk, say: --resume will only have to write the model
            self._save_checkpoint(trainer)
            raise
        self.checkpoint.unlink(missing_ok=True)
        bits = summary["validation_bits_per_char"]
        told = "" if bits is None else f", {bits:.4f} bits/char on validation text"
        self.watch.say(f"{shown(str(self.model))}: {trainer.characters:,} characters{told}")


def _spelled(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


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
        levels=o["levels"], cell=o["cell"], mode=o["mode"], gate=gate, time_code=o["time_code"]
    )


def _recipe(o: dict[str, Any]) -> Recipe:
    from chunker.learning.recipe import Recipe

    return Recipe(**{field.name: o[field.name] for field in dataclasses.fields(Recipe)})


@contextlib.contextmanager
def _caught_signals(run: _Run) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM lets the step and a checkpoint finish; a second one does not wait."""

    def stop(number: int, frame: FrameType | None) -> None:
        if run.stopped_by is not None:
            raise KeyboardInterrupt
        run.stopped_by = number

    caught = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {
        number: signal.signal(number, stop)
        for number in caught
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN  # nohup stays nohup
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
