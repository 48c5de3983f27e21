"""Distillation: a student learns from a frozen teacher what only the teacher could predict.

    symbols --> student (trained) --> state h --linear--> the teacher's upper state, normalised   (MSE)
       |                 '--> P(symbol) ------------------> the symbols; the teacher's P(symbol)  (CE; KL)
       '-----> teacher (frozen, no gradient, a state of its own carried from window to window)

Schmidhuber 1992, section 4: the automatizer A is trained on its own next input and on the chunker C's hidden
state and outputs, so that in time it predicts what C knew. The state of C is held between its inputs. The
soft outputs and their temperature are those of Hinton, Vinyals, Dean 2015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from chunker.config import NGrams, StackConfig
from chunker.errors import UsageError
from chunker.learning.checkpoint import part
from chunker.learning.config import DistillConfig, TrainConfig
from chunker.learning.corpus import Lanes, Streams
from chunker.learning.stack import Stack, StackOutput, StackState
from chunker.learning.trainer import Trainer

_MOMENTUM = 0.99  # of the running mean and variance of the teacher's states, per window
_SMALLEST_VARIANCE = 1e-6


class Distiller(Trainer):
    """Trains the stack `student` on text and on a frozen `teacher` that reads the same windows.

    The teacher is any stack over the same alphabet; of its states the upper levels' count, of a single level
    its own. The student's level 0 is what learns the state; its whole prediction learns the distribution.
    While upper levels of a faithful student grow, they learn from their own next inputs alone.

    Raises
    ------
    UsageError: the alphabets differ.
    """

    def __init__(
        self,
        student: Stack,
        streams: Streams,
        config: TrainConfig,
        objective: DistillConfig,
        teacher: Stack,
        validation: Lanes | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        ours, theirs = student.config.symbols, teacher.config.symbols
        if ours != theirs:
            raise UsageError(
                f"the teacher knows {theirs} symbols and the student {ours}; give both the same alphabet"
            )
        self.objective = objective
        self.teacher = teacher.to(device).eval()
        self.teacher_state = teacher.start(streams.batch).to(device)
        upper = range(1, teacher.growing + 1)
        self._taught_levels = upper or range(1)
        widths = [teacher.config.levels[i] for i in self._taught_levels]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.regressor = nn.Linear(student.config.levels[0], sum(widths)).to(device)
        self.norm = _Norm(sum(widths), device)
        super().__init__(student, streams, config, validation, device)

    def _more_parameters(self) -> list[nn.Parameter]:
        return [*self.regressor.parameters()] if self.objective.state_weight else []

    def _reset(self, rows: Tensor) -> None:
        super()._reset(rows)
        self.teacher_state = self.teacher_state.reset(rows)

    def _loss(self, output: StackOutput, symbols: Tensor) -> Tensor:
        objective, loss = self.objective, super()._loss(output, symbols)
        growing = self.stack.config.mode == "faithful" and self.stack.growing > 0
        if not objective.taught or growing:
            return loss
        with torch.no_grad():
            taught = self.teacher(symbols, self.teacher_state)
            target = _before(taught, self.teacher_state, self._taught_levels).float()
            wanted = self.teacher.log_probs(taught)
        self.teacher_state = taught.state
        loss = objective.own_weight * loss
        ramp = min(self.level_share / objective.ramp, 1.0) if objective.ramp else 1.0
        if objective.output_weight:
            found = self.stack.log_probs(output)
            loss = loss + ramp * objective.output_weight * soft_divergence(
                wanted, found, objective.temperature
            )
        if objective.state_weight:
            predicted = self.regressor(_before(output, self.state, range(1))).float()
            loss = loss + ramp * objective.state_weight * nn.functional.mse_loss(predicted, self.norm(target))
        return loss

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = super().snapshot()
        tensors |= {f"taught/{name}": t for name, t in self.teacher_state.state_dict().items()}
        tensors |= {f"regressor/{name}": t for name, t in self.regressor.state_dict().items()}
        return tensors | {f"norm/{name}": t for name, t in self.norm.state_dict().items()}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        super().restore(tensors, facts)
        self.teacher_state = StackState.from_state_dict(part(tensors, "taught")).to(self.device)
        self.regressor.load_state_dict(part(tensors, "regressor"))
        self.norm.load_state_dict(part(tensors, "norm"))


def soft_divergence(wanted: Tensor, found: Tensor, temperature: float) -> Tensor:
    """Mean nats T^2 KL(wanted || found) of log-probabilities (..., V), softened by T (Hinton et al. 2015)."""
    if temperature != 1:
        wanted, found = (torch.log_softmax(x / temperature, -1) for x in (wanted, found))
    symbols = wanted[..., 0].numel()
    return temperature**2 / symbols * nn.functional.kl_div(found, wanted, reduction="sum", log_target=True)


def own_student(teacher: Stack) -> Stack:
    """The teacher's level 0 as a stack of its own, as in 1991: a copy with its weights."""
    config = replace(teacher.config, levels=teacher.config.levels[:1])
    student = Stack(config)
    weights = {name: t for name, t in teacher.state_dict().items() if name.startswith(_LEVEL)}
    student.load_state_dict({**weights, "thresholds_bits": teacher.thresholds_bits[:0]})
    return student


def choose_student(
    teacher: Stack,
    student: Stack | str = "own",
    levels: Sequence[int] | None = None,
    cell: str | None = None,
    ngrams: NGrams | None = None,
    seed: int = 0,
) -> Stack:
    """A student for a teacher, as `chunker distill` makes it.

    student: "own", the teacher's level 0; "fresh", new weights; or a stack, whose level 0 goes on learning.
    levels: widths of a fresh student, or how many of its units another one keeps; None: the teacher's, or
    all.
    cell, ngrams, seed: of a fresh student; None: the teacher's.

    Raises
    ------
    UsageError: a choice that only a fresh student has, or more units than there are.
    """
    if student == "fresh":
        config = teacher.config
        widths, ngrams = tuple(levels or config.levels[:1]), ngrams or config.ngrams
        return fresh_student(
            replace(config, levels=widths, cell=cell or config.cell, ngrams=ngrams), seed, teacher
        )
    for name, value in (("cell", cell), ("ngrams", ngrams)):
        if value is not None:
            raise UsageError(f"--{name} goes with --student fresh only")
    net = teacher if isinstance(student, str) else student
    if levels is not None and len(levels) > 1:
        raise UsageError("--levels names several widths, which only --student fresh can have")
    width = levels[0] if levels else net.config.levels[0]
    return narrower_student(net, width, None if net is teacher else teacher)


def fresh_student(config: StackConfig, seed: int = 0, teacher: Stack | None = None) -> Stack:
    """A student with new weights; `seed` sets torch's generator on the CPU.

    teacher: if its n-grams are those of `config`, the student gets a copy of their vectors, which do not
    depend on the width of a level, and keeps it fixed.
    """
    torch.manual_seed(seed)
    student = Stack(config)
    share_ngrams(student, teacher)
    return student


def narrower_student(net: Stack, width: int, teacher: Stack | None = None) -> Stack:
    """Level 0 of a trained net with the `width` units that have the largest weights, as a stack of its own.

    The weight of a unit is the sum of squares of its outgoing weights, recurrent and read-out (pruning of
    whole units by magnitude: Li et al. 2017, section 3.1). teacher: as in `fresh_student`.

    Raises
    ------
    UsageError: the net is narrower than that.
    """
    whole = own_student(net)
    weights, old = whole.state_dict(), whole.config.levels[0]
    if width > old:
        raise UsageError(f"the student has {old} units in level 0, so levels may name {old} at most")
    readout, recurrent = weights[_LEVEL + "readout"], weights[_LEVEL + "recurrent"]
    weight = readout.square().sum(1) + recurrent.square().sum(1)
    units = weight.argsort(descending=True, stable=True)[:width].sort().values
    gates = torch.cat([units + gate * old for gate in range(whole.config.gates_per_cell)])
    for name in weights:
        if name.removeprefix(_LEVEL) in {"recurrent", "readout", "candidate_bias"}:
            weights[name] = weights[name][units]
        if name.removeprefix(_LEVEL) in {"symbol_input", "below", "recurrent", "bias"}:
            weights[name] = weights[name][..., gates]
    student = Stack(replace(whole.config, levels=(width,)))
    student.load_state_dict(weights)
    share_ngrams(student, teacher)
    return student


def share_ngrams(student: Stack, teacher: Stack | None) -> None:
    """Give the student a copy of the teacher's n-gram vectors, fixed, if both read the same n-grams."""
    ngrams = student.config.ngrams
    if teacher is None or ngrams is None or ngrams != teacher.config.ngrams:
        return
    table = student.get_parameter(_TABLE).requires_grad_(False)
    table.copy_(teacher.get_parameter(_TABLE).detach())


def has_shared_ngrams(student: Stack) -> bool:
    """Whether `share_ngrams` gave it a teacher's vectors."""
    table = dict(student.named_parameters()).get(_TABLE)
    return table is not None and not table.requires_grad


_LEVEL = "levels.0."
_TABLE = _LEVEL + "ngram_table"


class _Norm(nn.Module):
    """Running mean and variance of the teacher's states, by which each unit is normalised."""

    mean: Tensor
    square: Tensor
    weight: Tensor

    def __init__(self, width: int, device: torch.device | str) -> None:
        super().__init__()
        for name, size in (("mean", width), ("square", width), ("weight", 1)):
            self.register_buffer(name, torch.zeros(size, device=device))

    @torch.no_grad()
    def forward(self, states: Tensor) -> Tensor:
        """Update the statistics with states (T, B, W); the states, normalised to mean 0 and variance 1."""
        flat = states.reshape(-1, states.shape[-1])
        self.mean.lerp_(flat.mean(0), 1 - _MOMENTUM)
        self.square.lerp_((flat * flat).mean(0), 1 - _MOMENTUM)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - _MOMENTUM)
        mean = self.mean / self.weight
        variance = (self.square / self.weight - mean * mean).clamp_min(_SMALLEST_VARIANCE)
        return (states - mean) * variance.rsqrt()


def _before(output: StackOutput, state: StackState, levels: range) -> Tensor:
    """(T, B, W): states of some levels side by side before each symbol of a window that began in `state`."""
    columns = [torch.cat([state.levels[i].h.unsqueeze(0), output.states[i][:-1]]) for i in levels]
    return torch.cat(columns, -1)
