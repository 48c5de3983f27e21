"""`train` and `distill`: from text to a stack in one call, and the run behind them with its files.

    train, distill --> start_training, start_distillation --> Run --run--> Run.stack()
                                                               |---> the checkpoint, now and then
                                                               '---> the log, one JSON document a line

A run that was stopped and resumed computes the same bits as one that was not (see `trainer`). Settings that
are not given on resuming are those of the checkpoint.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from chunker.config import StackConfig, Wake
from chunker.errors import CheckpointError, UsageError
from chunker.learning.checkpoint import held_stack, load_checkpoint, save_checkpoint
from chunker.learning.config import DistillConfig, TrainConfig, WokenConfig, choose_device
from chunker.learning.corpus import (
    Lanes,
    Listed,
    Source,
    Streams,
    TextFile,
    changes,
    file_digests,
    open_source,
    validation_lanes,
    without_repeats,
)
from chunker.learning.distillation import (
    fresh_student,
    has_shared_ngrams,
    own_student,
    share_ngrams,
)
from chunker.learning.foretold import Foretold, foretell
from chunker.learning.lock import only_training
from chunker.learning.meter import LogPoint
from chunker.learning.ranks import ALONE, FailedElsewhere, LostRank, Ranks, here
from chunker.learning.rounds import IterativeDistillation
from chunker.learning.stack import Stack
from chunker.learning.trainer import AnyStreams, Trainer
from chunker.learning.woken_trainer import WokenDistiller, WokenStreams, WokenTrainer
from chunker.models import AnyModel, Model, loaded
from chunker.wholefile import write_whole

Path_ = str | os.PathLike[str]
Text = Path_ | Listed
Data = bytes | bytearray | memoryview | Path_ | Iterable[Text]
Progress = Callable[[LogPoint], None]
Config = TypeVar("Config", TrainConfig, DistillConfig, StackConfig)

# What a resumed run may change; everything else decides what was computed so far.
_MAY_CHANGE = {"minutes", "bytes", "learning_rate", "clip", "patience", "validations", "warmup", "schedule"}
_MAY_CHANGE |= {"validation_bytes"}
_DYING_SECONDS = 10.0  # that a process which was killed may take to let go of its files
# Figures of the best weights that go into the summary.
_FIGURES = ("bits_per_byte", "validation_bits_per_byte", "validation", "rates")


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
        random ones (fine-tuning); it is not changed, and gives the shape of the stack.
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


class AnyTrainer(Protocol):
    """What a run needs of a Trainer or an IterativeDistillation."""

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
    def streams(self) -> AnyStreams: ...
    @property
    def bfloat16(self) -> bool: ...

    def run(
        self, report: Callable[[LogPoint], None], stop: Callable[[], bool], log_seconds: float
    ) -> None: ...
    def result(self) -> tuple[StackConfig, dict[str, Tensor], dict[str, Any]]: ...
    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None: ...


class Run:
    """A training that can be stopped and resumed.

    trainer: what is trained, with other processes (`chunker.learning.ranks`) or alone; the first one writes
    the files. resumed: whether it went on from a checkpoint. checkpoint_minutes, log_seconds:
    between two checkpoints, and between two points of the log; may be set.
    """

    def __init__(
        self,
        trainer: AnyTrainer,
        settings: dict[str, Any],
        saved: tuple[dict[str, Tensor], dict[str, Any]] | None,
        checkpoint: Path_ | None,
        log: Path_ | None,
        facts: Callable[[], dict[str, Any]] = dict,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.trainer, self._settings, self._facts = trainer, settings, facts
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.log = Path(log) if log is not None and ranks.first else None
        self.resumed = saved is not None
        self.checkpoint_minutes, self.log_seconds = 5.0, 10.0
        if saved is not None:
            if changed := changes(saved[1].get("files", settings["files"]), settings["files"]):
                raise CheckpointError(
                    f"the corpus is not the one of the checkpoint ({changed}); give the same, or begin anew "
                    "(--force)"
                )
            if saved[1].get("validate") != settings["validate"]:
                before, now = ({t[0]: t[1:] for t in given["validate"]} for given in (saved[1], settings))
                changed = changes(before, now) or "another order"
                raise CheckpointError(
                    f"the text to validate on is not that of the checkpoint ({changed}); give the same"
                )
            if saved[1].get("woken") != settings.get("woken"):
                raise CheckpointError(
                    "how the stack is woken is not as in the checkpoint; give the same, or begin anew"
                )
            trainer.restore(*saved)
        self._saved_at = time.monotonic()
        self._trim_log()

    def run(
        self,
        progress: Progress | None = None,
        *,
        stop: Callable[[], bool] = lambda: False,
        failed: Callable[[OSError], None] | None = None,
    ) -> bool:
        """Train until the budget is used, or until `stop`, which is called after every step, returns True.

        progress: as for `train`. failed: called if a checkpoint could not be written, and training goes on;
        None: the error is raised.

        Returns
        -------
        Whether training is finished. If it is not, a checkpoint was written where one is kept.

        Raises
        ------
        TrainingError. LostRank: another process of this training has ended; a checkpoint was written where
        one is kept. FailedElsewhere: likewise, and another one wrote it.
        """

        def report(point: LogPoint) -> None:
            if self.log is not None:
                with self.log.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(point.to_json()) + "\n")
            if progress is not None:
                progress(point)

        def after_step() -> bool:
            late = time.monotonic() - self._saved_at > 60 * self.checkpoint_minutes
            due, asked = self.ranks.any(late and self.ranks.first, stop())
            if due and self.checkpoint is not None and not self.trainer.finished:
                try:
                    self.save_checkpoint()
                except OSError as error:  # hours of training are worth more than one checkpoint
                    if failed is None:
                        raise
                    failed(error)
                    self._saved_at = time.monotonic()
            return asked and not self.trainer.finished

        try:
            self.trainer.run(report, after_step, self.log_seconds)
        except LostRank as error:
            self._save_what_is_left(error)
        if not self.trainer.finished:
            self.save_checkpoint()
        return self.trainer.finished

    def discard_checkpoint(self) -> None:
        """Delete the checkpoint: what it is for is done."""
        if self.checkpoint is not None and self.ranks.first:
            self.checkpoint.unlink(missing_ok=True)

    def save_checkpoint(self) -> None:
        """Write the checkpoint, if one is kept; whole or not at all. Raises OSError."""
        if self.checkpoint is None:
            return
        tensors, facts = self.trainer.snapshot()
        if self.ranks.first or self.ranks.lost:
            save_checkpoint(self.checkpoint, tensors, {**facts, **self._settings})
        self._saved_at = time.monotonic()

    def _save_what_is_left(self, error: LostRank) -> None:
        """Write the checkpoint where another process has ended: in the first one, or in one that finds that
        the first one is gone. Raises LostRank, FailedElsewhere."""
        if self.checkpoint is None:
            raise error
        with contextlib.ExitStack() as held:
            if not self.ranks.first:
                self._take_over(self.checkpoint, held)
            self.save_checkpoint()
        raise LostRank(
            f"{error}; checkpoint written after {self.trainer.bytes:,} bytes, go on with --resume"
        ) from error

    def _take_over(self, checkpoint: Path, held: contextlib.ExitStack) -> None:
        """Hold the checkpoint in place of the first process, whose hold ends with it. Raises FailedElsewhere
        if it lives, or has written what is left."""
        noticed, before = time.monotonic(), _written(checkpoint)
        while True:
            try:
                held.enter_context(only_training(checkpoint))
                break
            except CheckpointError as error:
                if time.monotonic() - noticed > _DYING_SECONDS:
                    raise FailedElsewhere(str(error)) from error
                time.sleep(0.1)
        if _written(checkpoint) != before:
            raise FailedElsewhere("another process has written the checkpoint")

    def stack(self) -> Stack:
        """The best weights so far as a stack, with its summary."""
        config, tensors, figures = self.trainer.result()
        trainer = self.trainer
        stack = Stack.complete(config, tensors).to(trainer.stack.thresholds_bits.device).eval()
        stack.summary = {
            "sources": [
                {"name": s.name, "bytes": sum(f.size for f in s.files), "weight": s.weight}
                for s in trainer.streams.sources
            ],
            "training": asdict(trainer.config),
            **({"woken": self._settings["woken"]} if "woken" in self._settings else {}),
            "bytes": trainer.bytes,
            "seconds": round(trainer.seconds, 1),
            **{name: figures.get(name) for name in _FIGURES},
            "torch": torch.__version__,
            **self._facts(),
        }
        return stack

    def _trim_log(self) -> None:
        """Drop lines that were written after the checkpoint: they will be written again."""
        if self.log is None or not self.log.exists():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut by a crash
                if json.loads(line)["bytes"] <= self.trainer.bytes:
                    kept.append(line + "\n")
        write_whole(self.log, "".join(kept).encode())


def _written(path: Path) -> int | None:
    """When a file was written, in nanoseconds; None if there is none."""
    return path.stat().st_mtime_ns if path.exists() else None


def start_training(
    data: Data,
    settings: Mapping[str, Any],
    *,
    device: torch.device | str = "auto",
    resume: Path_ | None = None,
    log: Path_ | None = None,
    validate: Iterable[Text] = (),
    init: AnyModel | None = None,
    woken: WokenConfig | None = None,
    foretold: Path_ | None = None,
    advance: Callable[[int, int], None] | None = None,
    outputs: Iterable[Path] = (),
) -> Run:
    """The run behind `train`, ready to begin; settings: levels and budget included.

    advance: called with the bytes that level 0 has read so far, and with all that it has to read.
    outputs: what else is written besides `resume`, `log` and `foretold`; folders are read without these.
    """
    ranks = here()
    outputs = _outputs(resume, log, foretold, *outputs)
    place, saved = ranks.device(choose_device(device)), _saved(resume)
    _check_known(settings, StackConfig, TrainConfig)
    before = None if saved is None else saved[1]
    begun = None if init is None else loaded(init)
    begun_with = _begun_with(begun, before)
    if before is not None:
        begun = None  # its weights, trained on, are in the checkpoint
    if begun is None:
        shape = _configured(StackConfig, settings, before, "stack")
    else:
        shape = _shape_of(begun, settings)
    config = _configured(TrainConfig, settings, before, "training")
    _check_reads_bytes(shape)
    kept = {"stack": shape.to_json(), "training": asdict(config), "init": begun_with}

    def new_stack(shape: StackConfig) -> Stack:
        torch.manual_seed(config.seed)
        stack = Stack(shape) if saved is None else held_stack(shape, saved[0])
        if begun is not None:  # what the model does not read, as waking, begins at random
            stack.load_state_dict(Stack.from_model(begun).state_dict(), strict=False)
        return stack

    def facts() -> dict[str, Any]:
        return {} if begun_with is None else {"init": begun_with}

    if woken is not None:
        text = _foretell(data, validate, config, woken, foretold, advance, outputs, ranks)
        stack = new_stack(replace(shape, wake=shape.wake or Wake(slept=True, guess=True)))
        windows = WokenStreams(text.sources, text.foretold, [stack], config, woken.gate)
        trainer: Trainer = WokenTrainer(stack, windows, config, text.held_out, place, ranks)
        return Run(trainer, {**kept, **text.texts, "woken": asdict(woken)}, saved, resume, log, facts, ranks)
    sources, lanes, texts = _corpus(data, validate, config, outputs)
    streams = Streams(sources, config.batch, config.window, config.piece, config.seed)
    trainer = Trainer(new_stack(shape), streams, config, lanes, place, ranks)
    return Run(trainer, {**kept, **texts}, saved, resume, log, facts, ranks)


def _shape_of(model: Model, settings: Mapping[str, Any]) -> StackConfig:
    """The shape of the model that training begins with, of which settings ask for no other."""
    shape = model.config
    given = {field.name: settings[field.name] for field in fields(StackConfig) if field.name in settings}
    wanted = replace(shape, **given)
    for name in given:
        if getattr(wanted, name) != getattr(shape, name):
            raise UsageError(
                f"{name} is {_spelled(getattr(shape, name))} in the model to begin with; leave it out"
            )
    if shape.mode == "faithful" and len(shape.levels) > 1:
        raise UsageError("levels of a faithful stack are trained one after the other; begin with a joint one")
    return shape


def _begun_with(begun: Model | None, before: Mapping[str, Any] | None) -> str | None:
    """The fingerprint of the model that training began with."""
    found = None if begun is None else begun.fingerprint.hex()
    if before is None:
        return found
    was: str | None = before.get("init")
    if found not in (None, was):
        raise CheckpointError("the training began with another model; leave it out, or begin anew (--force)")
    return was


@dataclass(frozen=True)
class _WokenText:
    """What woken stacks are trained and validated on. texts: what a checkpoint keeps of them."""

    sources: list[Source]
    foretold: list[Foretold]
    held_out: list[tuple[Foretold, float]]
    texts: dict[str, Any]


def _foretell(
    data: Data,
    validate: Iterable[Text],
    config: TrainConfig,
    woken: WokenConfig,
    folder: Path_ | None,
    advance: Callable[[int, int], None] | None,
    outputs: Sequence[Path],
    ranks: Ranks = ALONE,
) -> _WokenText:
    if folder is None:
        raise UsageError("woken training needs a folder for what level 0 foretells")
    sources, texts = _open(data, validate, config, outputs)
    parts = [(source.name, source.training, source.weight) for source in sources]
    held_out = [(f"{source.name} (end)", source.validation, source.weight) for source in sources]
    held_out = [part for part in held_out if part[1].size]
    held_out += [(text.name, text.training, text.weight) for text in texts]
    wanted = [(name, strip) for name, strip, _ in (*parts, *held_out)]
    done, total = 0, sum(strip.size for _, strip in wanted)

    def more(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if advance is not None:
            advance(done, total)

    if ranks.count > 1:  # each reads a part of the texts, then all have all of them
        with ranks.together():
            foretell(wanted[ranks.rank :: ranks.count], Path(folder), woken.settings)
    found = foretell(wanted, Path(folder), woken.settings, more)
    scored = [
        (text, weight)
        for text, (_, _, weight) in zip(found[len(parts) :], held_out, strict=True)
        if len(text.steps)
    ]
    return _WokenText(sources, found[: len(parts)], scored, _digests(sources, texts))


def start_distillation(
    teacher: AnyModel,
    data: Data,
    student: Stack | StackConfig | None,
    settings: Mapping[str, Any],
    *,
    device: torch.device | str = "auto",
    resume: Path_ | None = None,
    log: Path_ | None = None,
    validate: Iterable[Text] = (),
    woken: WokenConfig | None = None,
    foretold: Path_ | None = None,
    advance: Callable[[int, int], None] | None = None,
    outputs: Iterable[Path] = (),
) -> Run:
    """The run behind `distill`, ready to begin; settings: rounds and budget included. advance, outputs: as
    for `start_training`.
    """
    if here().count > 1:
        raise UsageError("distilling takes one process; start it without torchrun")
    outputs = _outputs(resume, log, foretold, *outputs)
    place, saved = choose_device(device), _saved(resume)
    _check_known(
        {name: value for name, value in settings.items() if name != "rounds"}, DistillConfig, TrainConfig
    )
    before = None if saved is None else saved[1]
    config = _configured(TrainConfig, settings, before, "training")
    objective = _configured(DistillConfig, settings, before, "distillation")
    model = loaded(teacher)
    taught = copy.deepcopy(teacher) if isinstance(teacher, Stack) else Stack.from_model(model)
    _check_reads_bytes(taught.config)
    rounds = 1 if before is None else before["iterations"]
    if settings.get("rounds", rounds) != rounds and before is not None:
        raise CheckpointError(f"rounds was {rounds} so far; leave it out, or begin anew (--force)")
    rounds = settings.get("rounds", rounds)
    learner = _student(student, taught, config.seed, saved)
    kept = {
        "student": [learner.config.to_json(), has_shared_ngrams(learner)],
        "training": asdict(config),
        "distillation": asdict(objective),
        "iterations": rounds,
    }
    taught_by = {
        "teacher": model.fingerprint.hex(),
        "teacher_name": model.name,
        "distillation": asdict(objective),
    }
    if woken is not None:
        if rounds > 1:
            raise UsageError("a woken student is distilled in one round; leave --rounds out")
        text = _foretell(data, validate, config, woken, foretold, advance, outputs)
        windows = WokenStreams(text.sources, text.foretold, [learner, taught], config, woken.gate)
        distiller = WokenDistiller(learner, windows, config, objective, taught, text.held_out, place)
        kept |= {**text.texts, "woken": asdict(woken)}
        return Run(distiller, kept, saved, resume, log, lambda: taught_by)
    sources, lanes, texts = _corpus(data, validate, config, outputs)
    trainer = IterativeDistillation(taught, learner, sources, config, objective, lanes, place, rounds)
    kept |= texts

    def facts() -> dict[str, Any]:
        skill = trainer.skill()
        return {
            **taught_by,
            "rounds": trainer.rounds,
            "skill": None if skill is None else skill.to_json(),
        }

    return Run(trainer, kept, saved, resume, log, facts)


def _student(
    student: Stack | StackConfig | None,
    teacher: Stack,
    seed: int,
    saved: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None,
) -> Stack:
    if saved is not None:
        config, shared = StackConfig.from_json(saved[1]["student"][0]), saved[1]["student"][1]
        if student is not None and (student.config if isinstance(student, Stack) else student) != config:
            raise CheckpointError("the student is of another shape than the checkpoint's; leave it out")
        built = held_stack(config, saved[0])
        if shared:
            share_ngrams(built, teacher)
        return built
    if student is None:
        return own_student(teacher)
    return copy.deepcopy(student) if isinstance(student, Stack) else fresh_student(student, seed, teacher)


# ---- settings --------------------------------------------------------------------------------------


def _given(settings: dict[str, Any], **named: Any) -> dict[str, Any]:
    return settings | {name: value for name, value in named.items() if value is not None}


def _check_known(settings: Mapping[str, Any], *kinds: type[Any]) -> None:
    known = {field.name for kind in kinds for field in fields(kind)}
    for name in settings:
        if name not in known:
            raise UsageError(f"setting {name!r} is not known; choose one of {', '.join(sorted(known))}")


def _check_reads_bytes(config: StackConfig) -> None:
    if config.symbols < 256:
        raise UsageError(f"a stack of {config.symbols} symbols reads no bytes; give it 256")


def _saved(resume: Path_ | None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    if resume is None or not Path(resume).exists():
        return None
    return load_checkpoint(Path(resume))


def _configured(
    kind: type[Config], settings: Mapping[str, Any], before: Mapping[str, Any] | None, key: str
) -> Config:
    """The configuration that the settings ask for; of a resumed run, that of the checkpoint."""
    given = {field.name: settings[field.name] for field in fields(kind) if field.name in settings}
    if before is None:
        if "bytes" in given:
            given.setdefault("minutes", None)
        return kind(**given)
    if key not in before:
        raise CheckpointError("the checkpoint is of another kind of run; begin anew")
    try:
        saved = StackConfig.from_json(before[key]) if kind is StackConfig else kind(**before[key])
    except (TypeError, ValueError) as exc:
        raise CheckpointError(f"the checkpoint's {key} cannot be read ({exc}); begin anew (--force)") from exc
    for name in ("minutes", "bytes"):
        if name in given and getattr(saved, name) is None:
            counted = "bytes" if name == "minutes" else "minutes"
            raise CheckpointError(
                f"the budget was in {counted} so far; give it in {counted}, or begin anew (--force)"
            )
    now = replace(saved, **given)
    for name in given:
        if name not in _MAY_CHANGE and getattr(now, name) != getattr(saved, name):
            raise CheckpointError(
                f"{name} was {_spelled(getattr(saved, name))} so far; leave it out, or begin anew (--force)"
            )
    return now


def _spelled(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# ---- text --------------------------------------------------------------------------------------------


def _outputs(*paths: Path_ | None) -> list[Path]:
    return [Path(path) for path in paths if path is not None]


def _open(
    data: Data, validate: Iterable[Text], config: TrainConfig, outputs: Sequence[Path]
) -> tuple[list[Source], list[Source]]:
    """What to train on, and more to validate on, which nothing of the former repeats."""
    sources = _sources(data, config.validation, outputs)
    texts = [open_source(path, outputs=outputs) for path in validate]
    without_repeats(sources, texts)
    return sources, texts


def _corpus(
    data: Data, validate: Iterable[Text], config: TrainConfig, outputs: Sequence[Path]
) -> tuple[list[Source], Lanes | None, dict[str, Any]]:
    """Sources to train on, lanes to validate on, and what tells the texts from others."""
    sources, texts = _open(data, validate, config, outputs)
    limit = config.validation_bytes
    if config.bytes is not None:  # with minutes, the trainer bounds the time that validation takes
        limit = min(limit, config.bytes // config.validations)
    return sources, validation_lanes(sources, texts, limit), _digests(sources, texts)


def _digests(sources: Sequence[Source], texts: Sequence[Source]) -> dict[str, Any]:
    """What a checkpoint keeps of the texts: of those to validate on, and of the files to train on."""
    held_out = [[text.name, text.weight, text.training.size, text.digest()] for text in texts]
    return {"validate": held_out, "files": file_digests(sources)}


def _sources(data: Data, validation: float, outputs: Sequence[Path]) -> list[Source]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        symbols = np.frombuffer(data, dtype=np.uint8)
        return [Source("text", [TextFile("text", len(symbols), Path(), symbols)], 1.0, validation)]
    paths = [data] if isinstance(data, (str, os.PathLike)) else data
    return [open_source(path, validation, outputs) for path in paths]
