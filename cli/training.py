"""What the commands that train do around a run: its files, signals, and what is shown of it."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from chunker import extras
from chunker.cli.files import shown
from chunker.cli.guard import FAILURE, Stopped, describe
from chunker.cli.watch import Watch
from chunker.errors import ChunkerError, UsageError

if TYPE_CHECKING:
    from chunker.learning.corpus import Listed
    from chunker.learning.meter import LogPoint
    from chunker.learning.run import Run
    from chunker.learning.stack import Stack


def train_to_file(
    ctx: click.Context,
    begin: Callable[..., Run],
    tell: Callable[[Stack, Watch], None] = lambda stack, watch: None,
) -> None:
    """Train, from the beginning or from the checkpoint, and write the model.

    begin: makes the run, with the keywords data, device, resume, log, validate and outputs of
    `start_training`. tell: says more of the trained stack.
    """
    from chunker.learning.checkpoint import checkpoint_path
    from chunker.learning.ranks import FailedElsewhere, joined

    model: Path = ctx.params["model"]
    if not model.name:
        raise UsageError(f"{shown(str(model))} is a folder; name a file with -o")
    checkpoint = checkpoint_path(model)
    try:
        with joined() as ranks, contextlib.ExitStack() as held:
            with ranks.together():
                if ranks.first:
                    held.enter_context(_only_training(model, checkpoint))
                    _check_outputs(ctx.params, model, checkpoint)
                run = _begun(ctx.params, model, checkpoint, begin)
            _train(ctx.params, model, run, tell)
    except FailedElsewhere:  # which tells why
        ctx.exit(FAILURE)
    except Stopped as stopped:  # by torchrun, say, which ends all if one has failed
        if os.environ.get("RANK", "0") == "0":
            raise
        ctx.exit(128 + stopped.number)


def _check_outputs(o: dict[str, Any], model: Path, checkpoint: Path) -> None:
    _refuse_bad_target(o, model, checkpoint)
    if o["plot"] is not None:
        from chunker.views.curves import check_picture

        check_picture(o["plot"])
    if o["tensorboard"] is not None:
        extras.require("tensorboard", "--tensorboard")


def _begun(o: dict[str, Any], model: Path, checkpoint: Path, begin: Callable[..., Run]) -> Run:
    """The run, ready to begin."""
    import torch

    if o["threads"]:
        torch.set_num_threads(o["threads"])
    data, validate = _texts(o)
    run = begin(
        data=data,
        device=o["device"],
        resume=checkpoint if o["resume"] else None,
        log=_log_of(model),
        validate=validate,
        outputs=[model, checkpoint, *(path for path in (o["plot"], o["tensorboard"]) if path is not None)],
    )
    run.checkpoint = checkpoint
    if not run.resumed:
        run.discard_checkpoint()
    run.checkpoint_minutes, run.log_seconds = o["checkpoint_minutes"], o["log_seconds"]
    return run


def _log_of(model: Path) -> Path:
    return model.with_name(model.name + ".jsonl")


def _train(o: dict[str, Any], model: Path, run: Run, tell: Callable[[Stack, Watch], None]) -> None:
    from chunker.learning.ranks import FailedElsewhere

    first = run.ranks.first
    watch = Watch(quiet=o["quiet"] or not first)
    watch.say(_opening(run))
    watch.start()
    with (
        _caught_signals() as caught,
        contextlib.closing(watch),
        _board(o["tensorboard"] if first else None) as add,
    ):

        def show(point: LogPoint) -> None:
            watch.show(point)
            add(point)

        def stop() -> bool:
            watch.advance(run.trainer.share)
            return bool(caught)

        def failed(error: OSError) -> None:
            watch.say(f"no checkpoint: {describe(error)}; training goes on")

        finished = run.run(show, stop=stop, failed=failed)
    if not finished and not first:
        raise FailedElsewhere("stopped")
    if not finished:
        watch.say(f"checkpoint written after {run.trainer.bytes:,} bytes; go on with --resume")
        if caught == [signal.SIGINT]:
            raise KeyboardInterrupt
        raise Stopped(caught[0] if caught else signal.SIGTERM)
    if not first:
        return
    try:
        stack = run.stack()
        stack.save(model)
    except (OSError, ChunkerError):  # a full disk, say: --resume will only have to write the model
        run.save_checkpoint()
        raise
    run.discard_checkpoint()
    tell(stack, watch)
    bits = stack.summary["validation_bits_per_byte"]
    told = "" if bits is None else f", {bits:.4f} bits/byte on validation text"
    watch.say(f"{shown(str(model))}: {run.trainer.bytes:,} bytes{told}")
    if o["plot"] is not None:
        from chunker.views.curves import draw_logs, read_log

        draw_logs([read_log(_log_of(model))], o["plot"])


@contextlib.contextmanager
def _board(folder: Path | None) -> Iterator[Callable[[LogPoint], None]]:
    """What writes points of the log for TensorBoard; nothing if no folder is given."""
    if folder is None:
        yield lambda point: None
        return
    tensorboard: Any = importlib.import_module("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(folder)) as writer:

        def add(point: LogPoint) -> None:
            for name, value in point.scalars().items():
                writer.add_scalar(name, value, point.bytes)

        yield add


def _texts(o: dict[str, Any]) -> tuple[list[str | Listed], list[str | Listed]]:
    """What to train on, and to validate on. Raises UsageError, CorpusError."""
    from chunker.learning.corpus import read_list

    train, validate = ([], []) if o["listed"] is None else read_list(o["listed"])
    if not o["corpus"] and not train:
        raise UsageError("there is nothing to train on; name files or folders, or a --list of them")
    return [*o["corpus"], *train], [*o["validate"], *validate]


def _refuse_bad_target(o: dict[str, Any], model: Path, checkpoint: Path) -> None:
    """Find out now, not after hours, that the model may not be written. Raises UsageError."""
    if o["force"] and o["resume"]:
        raise UsageError("--force starts afresh and --resume goes on; give one of them")
    if model.is_dir():
        raise UsageError(f"{shown(str(model))} is a folder; name a file with -o")
    if o["resume"]:
        if model.exists() and not checkpoint.exists():
            raise UsageError(f"{shown(str(model))} is finished; train it anew with --force")
    elif not o["force"]:
        for path in (model, checkpoint):
            if path.exists():
                raise UsageError(f"{shown(str(path))} exists; replace it with --force or go on with --resume")


@contextlib.contextmanager
def _only_training(model: Path, checkpoint: Path) -> Iterator[None]:
    """Refuse now, not after hours, another training's model, and a folder that cannot be written to.

    Raises UsageError, CheckpointError.
    """
    from chunker.learning.lock import only_training

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_training(checkpoint))
        except FileNotFoundError:
            raise UsageError(f"the folder {shown(str(model.parent))} does not exist; make it") from None
        except OSError as exc:
            raise UsageError(
                f"nothing can be written to {shown(str(model.parent))} ({exc.strerror}); choose another -o"
            ) from exc
        yield


def _opening(run: Run) -> str:
    trainer = run.trainer
    weights = sum(p.numel() for p in trainer.stack.parameters())
    how = f"resumed after {trainer.bytes:,} bytes" if run.resumed else "from the beginning"
    return (
        f"training {weights:,} weights on {trainer.streams.bytes:,} bytes, {how}, "
        f"{trainer.stack.thresholds_bits.device.type}, {'bfloat16' if trainer.bfloat16 else 'float32'}"
    )


@contextlib.contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM lets the step and a checkpoint finish; a second one does not wait.

    Yields a list into which the number of the first signal is put.
    """
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if caught and "TORCHELASTIC_RUN_ID" not in os.environ:  # torchrun repeats itself, and then kills
            raise KeyboardInterrupt
        caught.append(number)

    watched = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {
        number: signal.signal(number, stop)
        for number in watched
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN  # nohup stays nohup
    }
    from chunker.learning.ranks import FailedElsewhere, LostRank

    try:
        yield caught
    except (LostRank, FailedElsewhere):
        before = {}  # torchrun now ends this process, too, which is about to tell why
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
