"""`distill`: from a teacher and text to a student, in one call; and the lineage that its model file tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chunker.config import StackConfig
from chunker.core.quantize import freeze
from chunker.learning.collapse import Collapse, complete
from chunker.learning.convert import build_stack, to_file
from chunker.learning.corpus import Source, TextFile, open_source, validation_lanes
from chunker.learning.distill import Lesson, fresh_student, own_student
from chunker.learning.meter import LogPoint
from chunker.learning.recipe import Recipe
from chunker.learning.stack import Stack
from chunker.models import Model, fingerprint, load_model, raw, save_model

_VALIDATION_CHARACTERS = 1 << 18

Data = bytes | str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True)
class Distilled:
    """A student: its configuration, its weights as a stack names them, and what goes into its model file."""

    config: StackConfig
    tensors: dict[str, Tensor]
    summary: dict[str, Any]

    def stack(self) -> Stack:
        """The float stack."""
        return complete(self.config, self.tensors).eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model file. Raises OSError."""
        save_model(path, to_file(self.tensors), self.config, self.summary)


def distill(
    teacher: Stack | Model | str | os.PathLike[str],
    data: Data,
    student: Stack | StackConfig | None = None,
    *,
    recipe: Recipe | None = None,
    lesson: Lesson | None = None,
    rounds: int = 1,
    validation: float = 0.05,
    device: torch.device | str = "cpu",
    report: Callable[[LogPoint], None] = lambda point: None,
) -> Distilled:
    """Train a student on `data` and on `teacher` (Schmidhuber 1992, section 4; Hinton et al. 2015).

    Parameters
    ----------
    teacher: a stack, a model, a model file or a built-in model's name; it is not changed.
    data: text, or paths of files and folders as `chunker train` takes them.
    student: a stack, which is trained in place; a configuration, for a fresh one; None: the teacher's level 0.
    recipe: budget and so on; its default is that of `Recipe`, half an hour. lesson: weights of what is learnt.
    rounds: how often to distill; see `chunker.learning.collapse`.
    validation: share at the end of the data that is not trained on; 0: no validation.
    report: gets the points of the log.

    Raises
    ------
    UsageError: the alphabets differ, or rounds do not fit. CorpusError, ModelError, TrainingError.
    """
    recipe, lesson = recipe or Recipe(), lesson or Lesson()
    name, print_, taught = _teacher(teacher)
    sources = _sources(data, validation)
    if student is None:
        student = own_student(taught)
    elif isinstance(student, StackConfig):
        student = fresh_student(student, recipe.seed, taught)
    lanes = validation_lanes(sources, [], _VALIDATION_CHARACTERS)
    run = Collapse(taught, student, sources, recipe, lesson, lanes, device, rounds)
    run.run(report)
    config, tensors, figures = run.result()
    summary = {"characters": run.characters, "seconds": round(run.seconds, 1), "recipe": asdict(recipe)}
    kept = {key: figures.get(key) for key in ("bits_per_char", "validation_bits_per_char", "rates")}
    return Distilled(config, tensors, {**summary, **kept, **lineage(run, name, print_)})


def lineage(run: Collapse, name: str, teacher: bytes) -> dict[str, Any]:
    """What a student's model file tells of its teacher, `teacher` being its fingerprint, and of its lessons."""
    skill = run.skill()
    return {
        "teacher": teacher.hex(),
        "teacher_name": name,
        "lesson": asdict(run.lesson),
        "rounds": run.rounds,
        "skill": None if skill is None else skill.to_json(),
    }


def _teacher(teacher: Stack | Model | str | os.PathLike[str]) -> tuple[str, bytes, Stack]:
    if isinstance(teacher, Stack):
        tensors = freeze(to_file(teacher.state_dict()))
        return "stack", fingerprint(teacher.config, raw(tensors)), teacher
    model = teacher if isinstance(teacher, Model) else load_model(teacher)
    return model.name, model.fingerprint, build_stack(model.config, model.float_tensors)


def _sources(data: Data, validation: float) -> list[Source]:
    if isinstance(data, bytes):
        symbols = np.frombuffer(data, dtype=np.uint8)
        return [Source("text", [TextFile("text", len(symbols), Path(), symbols)], 1.0, validation)]
    paths = [data] if isinstance(data, (str, os.PathLike)) else data
    return [open_source(path, validation) for path in paths]
