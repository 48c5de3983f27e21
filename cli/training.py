"""A run of the commands that train: from their options over checkpoints to the model file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import click

from chunker.cli.files import shown
from chunker.cli.guard import Stopped, describe
from chunker.cli.watch import Watch
from chunker.errors import CheckpointError, ChunkerError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from chunker.config import StackConfig
    from chunker.learning.corpus import Streams
    from chunker.learning.meter import LogPoint
    from chunker.learning.config import TrainConfig
    from chunker.learning.stack import Stack


# Figures of the saved weights that go into the model's summary.
_SUMMARY = ("bits_per_byte", "validation_bits_per_byte", "validation", "rates")
_DEFAULT_MINUTES = 30.0
# Options that a resumed run may change; all others must be as they were.
_FREE = {"minutes", "bytes", "learning_rate", "clip", "patience", "validations", "warmup", "decay"}
_FREE |= {"checkpoint_minutes", "log_seconds", "validate_limit"}


class AnyTrainer(Protocol):
    """What a run needs of a Trainer, and of a IterativeDistillation."""

    config: TrainConfig
    finished: bool

    @property
    def bytes(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def share(self) -> float: ...
    @property
    def stack(self) -> Stack: ...
    @property
    def streams(self) -> Streams: ...
    @property
    def bfloat16(self) -> bool: ...

    def run(
        self, report: Callable[[LogPoint], None], stop: Callable[[], bool], log_seconds: float
    ) -> None: ...
    def result(self) -> tuple[StackConfig, dict[str, Tensor], dict[str, Any]]: ...
    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None: ...


class Run:
    """One call of a command, from its options to the model file. Subclasses say what is trained."""

    def __init__(self, ctx: click.Context, options: dict[str, Any]) -> None:
        from chunker.learning.checkpoint import checkpoint_path

        self.ctx, self.options = ctx, options
        self.model: Path = options["model"]
        self.checkpoint = checkpoint_path(self.model)
        self.log = self.model.with_name(self.model.name + ".jsonl")
        self.saved_at = time.monotonic()
        self.stopped_by: int | None = None
        self.watch = Watch(quiet=options["quiet"])

    # ---- what the commands differ in -----------------------------------------------------------------

    def trainer(self) -> AnyTrainer:
        """Made from the options, ready to begin."""
        raise NotImplementedError

    def more_summary(self, trainer: AnyTrainer) -> dict[str, Any]:
        """What goes into the model's summary besides the rest."""
        return {}

    # ---- the run -------------------------------------------------------------------------------------

    def go(self) -> None:
        """Train, from the beginning or from the checkpoint, and write the model."""
        import torch

        from chunker.learning.checkpoint import load_checkpoint

        self._refuse_bad_target()
        if self.options["threads"]:
            torch.set_num_threads(self.options["threads"])
        saved = None
        if self.options["resume"] and self.checkpoint.exists():
            saved = load_checkpoint(self.checkpoint)
            self._take_over(saved[1]["options"])
        if self.options["minutes"] is None and self.options["bytes"] is None:
            self.options["minutes"] = _DEFAULT_MINUTES
        trainer = self.trainer()
        if saved:
            trainer.restore(*saved)
        else:
            self.checkpoint.unlink(missing_ok=True)
        self._trim_log(trainer.bytes)
        self.watch.say(self._opening(trainer, bool(saved)))
        self.watch.start()
        with _caught_signals(self), contextlib.closing(self.watch):
            trainer.run(self._report, lambda: self._tick(trainer), self.options["log_seconds"])
        if not trainer.finished:
            self._save_checkpoint(trainer)
            self.watch.say(f"checkpoint written after {trainer.bytes:,} bytes; go on with --resume")
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
        counted = "bytes" if before["minutes"] is None else "minutes"
        for name, value in before.items():
            given = self.ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
            here = self.options[name]
            if not given:
                self.options[name] = tuple(value) if isinstance(value, list) else value
            elif name in ("minutes", "bytes") and name != counted:
                raise CheckpointError(f"the budget was in {counted} so far; give it in {counted}, or --force")
            elif name not in _FREE and (list(here) if isinstance(here, tuple) else here) != value:
                option = "--" + name.replace("_", "-")
                raise CheckpointError(f"{option} was {_spelled(value)} so far; leave it out, or --force")

    def _opening(self, trainer: AnyTrainer, resumed: bool) -> str:
        weights = sum(p.numel() for p in trainer.stack.parameters())
        how = f"resumed after {trainer.bytes:,} bytes" if resumed else "from the beginning"
        return (
            f"training {weights:,} weights on {trainer.streams.bytes:,} bytes, {how}, "
            f"{trainer.stack.thresholds_bits.device.type}, {'bfloat16' if trainer.bfloat16 else 'float32'}"
        )

    # ---- during training -----------------------------------------------------------------------------

    def _tick(self, trainer: AnyTrainer) -> bool:
        """Called after every step; whether to stop."""
        self.watch.advance(trainer.share)
        if time.monotonic() - self.saved_at > 60 * self.options["checkpoint_minutes"]:
            try:
                self._save_checkpoint(trainer)
            except OSError as error:  # hours of training are worth more than one checkpoint
                self.watch.say(f"no checkpoint: {describe(error)}; training goes on")
                self.saved_at = time.monotonic()
        return self.stopped_by is not None and not trainer.finished

    def _save_checkpoint(self, trainer: AnyTrainer) -> None:
        from chunker.learning.checkpoint import save_checkpoint

        tensors, facts = trainer.snapshot()
        kept = ("corpus", "teacher", "model", "force", "resume", "device", "threads", "quiet")
        options = {k: v for k, v in self.options.items() if k not in kept}
        save_checkpoint(self.checkpoint, tensors, {**facts, "options": options})
        self.saved_at = time.monotonic()

    def _report(self, point: LogPoint) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(point.to_json()) + "\n")
        self.watch.show(point)

    def _trim_log(self, bytes: int) -> None:
        """Drop lines that were written after the checkpoint: they will be written again."""
        if not self.log.exists():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut by a crash
                if json.loads(line)["bytes"] <= bytes:
                    kept.append(line + "\n")
        self.log.write_text("".join(kept), encoding="utf-8")

    # ---- after training ------------------------------------------------------------------------------

    def _save_model(self, trainer: AnyTrainer) -> None:
        import torch

        from chunker.learning.convert import to_file
        from chunker.modelfile import save_stack

        config, tensors, figures = trainer.result()
        summary = {
            "sources": [
                {"name": s.name, "bytes": sum(f.size for f in s.files), "weight": s.weight}
                for s in trainer.streams.sources
            ],
            "config": dataclasses.asdict(trainer.config),
            "seed": trainer.config.seed,
            "bytes": trainer.bytes,
            "seconds": round(trainer.seconds, 1),
            **{name: figures.get(name) for name in _SUMMARY},
            "torch": torch.__version__,
            **self.more_summary(trainer),
        }
        try:
            save_stack(self.model, to_file(tensors), config, summary)
        except (OSError, ChunkerError):  # a full disk, say: --resume will only have to write the model
            self._save_checkpoint(trainer)
            raise
        self.checkpoint.unlink(missing_ok=True)
        bits = summary["validation_bits_per_byte"]
        told = "" if bits is None else f", {bits:.4f} bits/byte on validation text"
        self.watch.say(f"{shown(str(self.model))}: {trainer.bytes:,} bytes{told}")


def _spelled(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@contextlib.contextmanager
def _caught_signals(run: Run) -> Iterator[None]:
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
