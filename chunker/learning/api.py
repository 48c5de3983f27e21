"""`train` and `distill`: from text to a stack in one call.

train, distill --> start_training, start_distillation --> Run --> stack
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from chunker.config import StackConfig
from chunker.learning.config import WokenConfig
from chunker.learning.lock import only_training
from chunker.learning.ranks import here
from chunker.learning.run import Path_, Progress, Run
from chunker.learning.stack import Stack
from chunker.learning.starting import Data, Text, start_distillation, start_training

if TYPE_CHECKING:
    from chunker.models import AnyModel


def train(
    data: Data,
    levels: Sequence[int] | None = None,
    *,
    minutes: float | None = None,
    bytes: int | None = None,
    device: torch.device | str = "auto",
    progress: Progress | None = None,
    resume: Path_ | None = None,
    log: Path_ | None = None,
    validate: Iterable[Text] = (),
    init: AnyModel | None = None,
    woken: WokenConfig | None = None,
    foretold: Path_ | None = None,
    **settings: Any,
) -> Stack:
    """Train a stack on bytes (truncated back-propagation through time, AdamW).

    Parameters
    ----------
    data: text as bytes; or paths of files and folders, each may carry a weight, as in "texts/:2", or be
        `Listed` with a weight and a limit.
    levels: hidden units of each level, lowest first. [default: 256, 512]
    minutes, bytes: the budget, one of them. [default: 30 minutes]
    device: "auto" (a GPU if there is one), "cpu", "cuda:1", ...
    progress: called about every ten seconds and after every validation.
    resume: where the checkpoint lies: the run goes on from it if it exists, writes it every five minutes, and
        deletes it at the end. None: no checkpoint.
    log: a file to which every LogPoint is written, one JSON document a line.
    validate: paths of more text to validate on, besides the ends of the files in `data`. What repeats it is
        not trained on (`chunker.learning.corpus.without_repeats`).
    init: a stack, a model, a model file or a built-in model's name, to begin with its weights instead of
        random ones (fine-tuning); it is not changed, and gives the shape of the stack, but for `ngrams`, and
        for `levels` above its own with their `gate`, if given.
    woken: train as archives run the stack: level 1 steps only where the contexts are unsure, and the loss is
        that of the mixture with them (`chunker.learning.woken`). None: it reads every byte, alone.
    foretold: with `woken`, the folder where what the contexts say of the text is kept (24 bytes for each byte
        at which level 1 wakes); it takes ten seconds a megabyte to make, once. None: a temporary one.
    settings: any other field of `StackConfig` and of `TrainConfig`, as cell="lstm", mode="faithful",
        batch=64, learning_rate=4e-3, seed=1. What is not given is as in the checkpoint, or the default.

    Returns
    -------
    The stack with the weights that were best on the validation text, in evaluation mode on the device;
    `stack.summary` says how it was trained.

    Raises
    ------
    UsageError: a setting out of range or unknown, or not that of `init`. ModelError: `init` cannot be loaded.
    CorpusError: text that cannot be read. CheckpointError: the checkpoint is of other data or settings, or in
    use. TrainingError: the loss is no longer finite.
    """
    given = _given(settings, levels=levels, minutes=minutes, bytes=bytes)
    with only_training(resume if here().first else None), _folder(woken, foretold) as folder:
        run = start_training(
            data,
            given,
            device=device,
            resume=resume,
            log=log,
            validate=validate,
            init=init,
            woken=woken,
            foretold=folder,
        )
        return _finished(run, progress)


def distill(
    teacher: AnyModel,
    data: Data,
    student: Stack | StackConfig | None = None,
    *,
    minutes: float | None = None,
    bytes: int | None = None,
    rounds: int | None = None,
    device: torch.device | str = "auto",
    progress: Progress | None = None,
    resume: Path_ | None = None,
    log: Path_ | None = None,
    validate: Iterable[Text] = (),
    woken: WokenConfig | None = None,
    foretold: Path_ | None = None,
    **settings: Any,
) -> Stack:
    """Train a student on bytes and on a teacher (Schmidhuber 1992, section 4; Hinton, Vinyals and Dean 2015).

    Parameters
    ----------
    teacher: a stack, a model, a model file or a built-in model's name; it is not changed.
    student: a stack to go on from, of which a copy is trained; a configuration, for a new one; None: a copy
        of the teacher's level 0.
    rounds: how many times to distill; in between, the upper levels are retrained on the inputs that are left
        (see `chunker.learning.rounds`). [default: 1]
    settings: any other field of `DistillConfig` and of `TrainConfig`, as output_weight=0.5, seed=1.
    woken: student and teacher run as in archives, and the student learns the bits and how probable the
        teacher's mixture holds them (`chunker.learning.woken_trainer.WokenDistiller`); in one round, with
        state_weight=0.
    data, minutes, bytes, device, progress, resume, log, validate, foretold: as for `train`.

    Returns
    -------
    The student with the weights that were best on the validation text, in evaluation mode on the device;
    `student.summary` names its teacher, and says what it took over and forgot (`chunker.learning.skill`).

    Raises
    ------
    UsageError: the alphabets differ, rounds do not fit, a setting is out of range or unknown. ModelError: the
    teacher cannot be loaded. CorpusError, CheckpointError, TrainingError: as for `train`.
    """
    given = _given(settings, minutes=minutes, bytes=bytes, rounds=rounds)
    with only_training(resume), _folder(woken, foretold) as folder:
        run = start_distillation(
            teacher,
            data,
            student,
            given,
            device=device,
            resume=resume,
            log=log,
            validate=validate,
            woken=woken,
            foretold=folder,
        )
        return _finished(run, progress)


@contextlib.contextmanager
def _folder(woken: WokenConfig | None, foretold: Path_ | None) -> Iterator[Path_ | None]:
    """Where to keep what level 0 foretells; a temporary folder if none is given and one is needed."""
    if woken is None or foretold is not None:
        yield foretold
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def _finished(run: Run, progress: Progress | None) -> Stack:
    run.run(progress)
    stack = run.stack()
    run.discard_checkpoint()
    return stack


def _given(settings: dict[str, Any], **named: Any) -> dict[str, Any]:
    return settings | {name: value for name, value in named.items() if value is not None}
