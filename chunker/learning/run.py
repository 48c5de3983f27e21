"""A training that can be stopped and resumed, with its files.

    Run.run --> the checkpoint, now and then
     |     '---> the log, one JSON document a line
    Run.stack --> the best weights so far

A run that was stopped and resumed computes the same bits as one that was not (see `trainer`).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from chunker.config import StackConfig
from chunker.errors import CheckpointError
from chunker.learning.checkpoint import save_checkpoint
from chunker.learning.config import TrainConfig
from chunker.learning.corpus import changes
from chunker.learning.lock import only_training
from chunker.learning.meter import LogPoint
from chunker.learning.ranks import ALONE, FailedElsewhere, LostRank, Ranks
from chunker.learning.stack import Stack
from chunker.learning.trainer import AnyStreams
from chunker.wholefile import write_whole

Path_ = str | os.PathLike[str]
Progress = Callable[[LogPoint], None]
_DYING_SECONDS = 10.0  # that a process which was killed may take to let go of its files
# Figures of the best weights that go into the summary.
_FIGURES = ("bits_per_byte", "validation_bits_per_byte", "validation", "rates")


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
