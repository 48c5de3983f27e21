"""Where runs begin: settings, texts, and what level 0 foretells of them.

Settings that are not given on resuming are those of the checkpoint.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from chunker.config import StackConfig, Wake
from chunker.errors import CheckpointError, UsageError
from chunker.learning.checkpoint import held_stack, load_checkpoint
from chunker.learning.config import DistillConfig, TrainConfig, WokenConfig, choose_device
from chunker.learning.corpus import (
    Lanes,
    Listed,
    Source,
    Streams,
    TextFile,
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
from chunker.learning.ngrams import carry_vectors
from chunker.learning.ranks import ALONE, Ranks, here
from chunker.learning.rounds import IterativeDistillation
from chunker.learning.run import Path_, Run
from chunker.learning.stack import Stack
from chunker.learning.trainer import Trainer
from chunker.learning.woken_trainer import WokenDistiller, WokenStreams, WokenTrainer
from chunker.models import Model, loaded

if TYPE_CHECKING:
    from chunker.models import AnyModel

Text = Path_ | Listed
Data = bytes | bytearray | memoryview | Path_ | Iterable[Text]
Config = TypeVar("Config", TrainConfig, DistillConfig, StackConfig)
# What a resumed run may change; everything else decides what was computed so far.
_MAY_CHANGE = {"minutes", "bytes", "learning_rate", "clip", "patience", "validations", "warmup", "schedule"}
_MAY_CHANGE |= {"validation_bytes"}


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
        if begun is not None:
            _take_over(stack, Stack.from_model(begun))
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
    """The shape of the model that training begins with; settings may ask for other n-grams, and for more
    levels above its own, with their gate."""
    shape = model.config
    given = _of(StackConfig, settings)
    wanted = replace(shape, **given)
    may_change = {"ngrams"}
    if len(wanted.levels) > len(shape.levels) and wanted.levels[: len(shape.levels)] == shape.levels:
        may_change |= {"levels"} if len(shape.levels) > 1 else {"levels", "gate"}
    for name in given.keys() - may_change:
        if getattr(wanted, name) != getattr(shape, name):
            raise UsageError(
                f"{name} is {_spelled(getattr(shape, name))} in the model to begin with; leave it out"
            )
    if shape.mode == "faithful" and len(wanted.levels) > 1:
        raise UsageError("levels of a faithful stack are trained one after the other; begin with a joint one")
    was, now = shape.ngrams, wanted.ngrams
    if was is not None and now is not None and (was.rows, was.width) != (now.rows, now.width):
        raise UsageError(
            f"the model to begin with has {was.rows} rows of {was.width} for each n-gram; ask for as many"
        )
    return wanted


def _take_over(stack: Stack, begun: Stack) -> None:
    """Begin with a model's weights. What it does not read, as waking or some n-grams, stays as it is; levels
    that it does not have say nothing at first."""
    tensors, level = begun.state_dict(), stack.level(0)
    there = len(begun.levels)
    tensors["thresholds_bits"] = torch.cat([tensors["thresholds_bits"], stack.thresholds_bits[there - 1 :]])
    with torch.no_grad():
        for index in range(there, len(stack.levels)):
            stack.level(index).readout.zero_()
    was, now = begun.config.ngrams, stack.config.ngrams
    if was is not None and now is not None and level.ngram_table is not None:
        table = carry_vectors(tensors["levels.0.ngram_table"], was, level.ngram_table.detach(), now)
        tensors["levels.0.ngram_table"] = table
    stack.load_state_dict(tensors, strict=False)


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


def _of(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that are fields of a configuration."""
    return {field.name: settings[field.name] for field in fields(kind) if field.name in settings}


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
    given = _of(kind, settings)
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
