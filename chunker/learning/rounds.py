"""Iterative distillation: distill, retrain the upper levels on the inputs that are left, and again.

    round 1   teacher -----------------------------> student         (Distiller)
              [student; upper levels] <-- at the same threshold in bits, fewer inputs go up
    round 2   retrained stack ---------------------> student         (Trainer, then Distiller)
    ...       until the upper levels, or the student, gain nothing any more

Schmidhuber 1992, section 4: the chunker receives less and less, and in the end the automatizer works alone.
Each round's student continues from the one before. The budget is divided into equal parts, one per phase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from chunker.config import GateRule, StackConfig
from chunker.errors import CheckpointError, UsageError
from chunker.learning.checkpoint import held_stack, part
from chunker.learning.config import DistillConfig, TrainConfig
from chunker.learning.corpus import Lanes, Source, Streams
from chunker.learning.distillation import Distiller
from chunker.learning.meter import LogPoint
from chunker.learning.skill import Skill, measure_skill
from chunker.learning.stack import Stack
from chunker.learning.trainer import AnyStreams, Trainer

_GAIN = 1e-3  # bits per byte on validation text that a phase must win, or it ends
_LOWEST_BITS, _HIGHEST_BITS = 1e-3, 16.0  # of a threshold


class IterativeDistillation:
    """Rounds of distillation of `teacher` into `student`; in use like a Trainer, with one budget for all.

    Raises
    ------
    UsageError: several rounds with a teacher of one level, or a student of another shape than its level 0.
    """

    def __init__(
        self,
        teacher: Stack,
        student: Stack,
        sources: Sequence[Source],
        config: TrainConfig,
        objective: DistillConfig,
        validation: Lanes | None = None,
        device: torch.device | str = "cpu",
        rounds: int = 1,
    ) -> None:
        if rounds < 1:
            raise UsageError("distillation takes at least one round")
        if rounds > 1 and len(teacher.config.levels) == 1:
            raise UsageError("the teacher has one level, so there is nothing to retrain; use one round")
        if rounds > 1 and replace(teacher.config, levels=teacher.config.levels[:1]) != student.config:
            raise UsageError(
                "several rounds need a student like the teacher's level 0; use its own, or one round"
            )
        self.origin, self.teacher = teacher, teacher
        self.objective, self.config, self.validation, self.device = objective, config, validation, device
        self.phases = 2 * rounds - 1
        self.sources = list(sources)
        self.phase = 0
        self.finished = False
        self.rounds: list[dict[str, Any]] = []  # what each round came to
        self.best: tuple[StackConfig, dict[str, Tensor], dict[str, Any]] | None = None
        self._before = (0, 0.0)  # bytes and seconds of the phases that are over
        self.trainer: Trainer = self._distiller(student)

    # ---- what a Trainer has, too ---------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        return self._before[0] + self.trainer.bytes

    @property
    def seconds(self) -> float:
        return self._before[1] + self.trainer.seconds

    @property
    def share(self) -> float:
        """The part of the budget that is used, 0 to 1."""
        return (self.phase + self.trainer.share) / self.phases

    @property
    def stack(self) -> Stack:
        return self.trainer.stack

    @property
    def streams(self) -> AnyStreams:
        return self.trainer.streams

    @property
    def bfloat16(self) -> bool:
        return self.trainer.bfloat16

    def run(
        self,
        report: Callable[[LogPoint], None] = lambda point: None,
        stop: Callable[[], bool] = lambda: False,
        log_seconds: float = 10.0,
    ) -> None:
        """Train until `finished`, or until `stop`, called after every step, returns True; see Trainer.run."""
        stopped = False

        def asked() -> bool:
            nonlocal stopped
            stopped = stop()
            return stopped

        def total(point: LogPoint) -> None:
            bytes, seconds = self._before
            report(replace(point, bytes=point.bytes + bytes, seconds=point.seconds + seconds))

        while not self.finished:
            self.trainer.run(total, asked, log_seconds)
            if self.trainer.finished:
                self._end_phase()
            if stopped:
                return

    def result(self) -> tuple[StackConfig, dict[str, Tensor], dict[str, Any]]:
        """What to save: the best student, and its log point."""
        return self.trainer.result() if self.best is None else self.best

    def skill(self) -> Skill | None:
        """The best student beside the teacher that was given; None without validation text."""
        if self.validation is None:
            return None
        config, tensors, _ = self.result()
        return measure_skill(self.origin, Stack.complete(config, tensors).to(self.device), self.validation)

    # ---- phases --------------------------------------------------------------------------------------

    def _plan(self) -> tuple[Streams, TrainConfig]:
        whole = self.config
        plan = replace(
            whole,
            minutes=None if whole.minutes is None else whole.minutes / self.phases,
            bytes=None if whole.bytes is None else max(1, whole.bytes // self.phases),
            seed=whole.seed + self.phase,
        )
        return Streams(self.sources, plan.batch, plan.window, plan.piece, plan.seed), plan

    def _distiller(self, student: Stack) -> Distiller:
        streams, plan = self._plan()
        return Distiller(student, streams, plan, self.objective, self.teacher, self.validation, self.device)

    def _end_phase(self) -> None:
        config, tensors, figures = self.trainer.result()
        bits = figures.get("validation_bits_per_byte")
        helped = self._note(bits)
        if self.phase % 2 == 0 and (self.best is None or helped):
            self.best = (config, tensors, figures)
        if not helped or self.phase + 1 == self.phases:
            self.finished = True
            return
        self._before = (self.bytes, self.seconds)
        self.phase += 1
        if self.phase % 2:
            self.trainer = Trainer(self._rebuilt(tensors), *self._plan(), self.validation, self.device)
        else:
            self.teacher = Stack.complete(config, tensors)
            self.trainer = self._distiller(Stack.complete(*self._best()[:2]))

    def _note(self, bits: float | None) -> bool:
        """Record the result of a phase; whether it helped. Without validation text it always counts so."""
        if self.phase % 2:
            self.rounds[-1]["retrained"] = bits
            return bits is None or bits < self.rounds[-1]["student"] - _GAIN
        known = [entry["student"] for entry in self.rounds]
        entry: dict[str, Any] = {"student": bits}
        if self.validation is not None:
            config, tensors, _ = self.trainer.result()
            skill = measure_skill(
                self.teacher, Stack.complete(config, tensors).to(self.device), self.validation
            )
            entry |= {
                "rates_before": [round(rate, 6) for rate in skill.rates],
                "passed_up_before": round(skill.passed_up_before, 6),
                "passed_up_after": round(skill.passed_up_after, 6),
            }
        self.rounds.append(entry)
        return bits is None or not known or bits < min(known) - _GAIN

    def _rebuilt(self, tensors: Mapping[str, Tensor]) -> Stack:
        """The teacher with the student as its level 0, frozen.

        A gate that follows a rate would let as many inputs through as before. So the gate keeps its present
        thresholds in bits, and what the student has learnt to predict no longer goes up.
        """
        config = self.teacher.config
        if config.gate.rule == "rate":
            bits = float(self.teacher.thresholds_bits[0])
            config = replace(config, gate=GateRule("surprise", min(max(bits, _LOWEST_BITS), _HIGHEST_BITS)))
        stack = Stack(config)
        lowest = {name: t for name, t in tensors.items() if name.startswith("levels.0.")}
        stack.load_state_dict({**self.teacher.state_dict(), **lowest})
        if config.mode == "faithful":
            stack.grow()
        stack.levels[0].requires_grad_(False)
        return stack

    def _best(self) -> tuple[StackConfig, dict[str, Tensor], dict[str, Any]]:
        if self.best is None:
            raise UsageError("no round is over yet")
        return self.best

    # ---- checkpoint ----------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the run goes on from: tensors by name, and JSON values."""
        inner, facts = self.trainer.snapshot()
        tensors = {f"trainer/{name}": t for name, t in inner.items()}
        tensors |= {f"origin/{name}": t for name, t in self.origin.state_dict().items()}
        if self.phase:
            tensors |= {f"teacher/{name}": t for name, t in self.teacher.state_dict().items()}
        more: dict[str, Any] = {
            "phase": self.phase,
            "phases": self.phases,
            "finished": self.finished,
            "rounds": self.rounds,
            "before": [*self._before],
            "trainer": facts,
            "trained": self.stack.config.to_json(),
            "teacher": self.teacher.config.to_json(),
            "best": None,
        }
        if self.best is not None:
            config, weights, figures = self.best
            tensors |= {f"student/{name}": t for name, t in weights.items()}
            more["best"] = [config.to_json(), figures]
        return tensors, more

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a `snapshot` taken with the same teacher, configuration and corpus.

        Raises CheckpointError if the teacher, the corpus, batch, window or piece is another one.
        """
        here, origin = self.origin.state_dict(), part(tensors, "origin")
        same = facts.get("phases") == self.phases and origin.keys() == here.keys()
        if not same or any(not torch.equal(t.cpu(), origin[name]) for name, t in here.items()):
            raise CheckpointError(
                "the teacher is not the one of the checkpoint; give the same, or begin anew (--force)"
            )
        self.phase, self.finished, self.rounds = facts["phase"], facts["finished"], [*facts["rounds"]]
        self._before = (int(facts["before"][0]), float(facts["before"][1]))
        if facts["best"] is not None:
            config, figures = facts["best"]
            weights = {name: t.to(self.device) for name, t in part(tensors, "student").items()}
            self.best = (StackConfig.from_json(config), weights, figures)
        if self.phase:
            self.teacher = Stack.complete(StackConfig.from_json(facts["teacher"]), part(tensors, "teacher"))
            trained = held_stack(StackConfig.from_json(facts["trained"]), tensors)
            if self.phase % 2:
                if trained.config.mode == "faithful":
                    trained.grow()
                trained.levels[0].requires_grad_(False)
                self.trainer = Trainer(trained, *self._plan(), self.validation, self.device)
            else:
                self.trainer = self._distiller(trained)
        self.trainer.restore(part(tensors, "trainer"), facts["trainer"])
