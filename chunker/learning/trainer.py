"""Truncated back-propagation through time over stateful streams, with a budget of minutes or bytes.

    corpus.Streams -> window (T, B) -> stack.forward -> loss -> clipped AdamW step -> gate thresholds
                                                                         |
    validation lanes, all cold, now and then: the best weights are kept, early stop

Everything that the next window depends on is in `Trainer.snapshot`: a run that was stopped and resumed
computes the same bits on the same machine as one that was not (with a budget of minutes the learning rate
follows the clock, and no two runs are equal). Several processes train together as `ranks` says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from chunker.config import StackConfig
from chunker.errors import TrainingError
from chunker.learning.checkpoint import part
from chunker.learning.config import TrainConfig, wants_bfloat16
from chunker.learning.corpus import Lanes, Source
from chunker.learning.level import Level
from chunker.learning.meter import LogPoint, Meter
from chunker.learning.ranks import ALONE, Ranks
from chunker.learning.stack import Stack, StackOutput, StackState, lower_levels

_MIN_GAIN = 1e-4  # bits per byte; less does not count as an improvement
_LEVEL_GAIN = 1e-3  # bits per byte that a level must win to be kept (faithful mode)
_VALIDATION_SHARE = 0.1  # of the elapsed time at most, with a budget of minutes
_BETAS = (0.9, 0.99)  # of AdamW: gradients change with the subject of the text, so average few of them


class AnyStreams(Protocol):
    """What a trainer asks of `Streams`. bytes: of all text."""

    sources: list[Source]
    batch: int
    bytes: int

    def next(self) -> Any:
        """The next window."""

    def position(self) -> dict[str, Any]:
        """For `seek`."""

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on where `position` was taken."""


class Trainer:
    """Trains `stack` in place; `run` goes on until the budget is used, or until `stop` says so.

    Joint mode trains all levels at once. Faithful mode trains level after level: each gets an equal part of
    the budget that remains, with a schedule of its own, and may stop early; training ends with the last
    level, or with one that lowers the validation bits by less than 0.001.
    """

    def __init__(
        self,
        stack: Stack,
        streams: AnyStreams,
        config: TrainConfig,
        validation: Lanes | None = None,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.device, self.ranks, self.rows = torch.device(device), ranks, ranks.rows(streams.batch)
        self.stack = stack.to(self.device)
        self.streams, self.config, self.validation = streams, config, validation
        self.bfloat16 = wants_bfloat16(config.precision, self.device)
        self.bytes, self.steps, self.seconds = 0, 0, 0.0
        self.level_begun = 0.0  # of the budget (bytes or seconds), when the growing level began
        self.finished = False
        self.best: dict[str, Tensor] | None = None
        self.best_figures: dict[str, Any] = {}  # the log point of the best weights
        self.best_bits = math.inf
        self.lowest_bits = math.inf  # of all log points and validations since the start or the checkpoint
        self.previous_figures: dict[str, Any] = {}  # faithful: the best without the growing level
        self.previous_bits = math.inf
        self.stale = 0  # validations in a row without improvement
        self.validated = 0  # validations that were due so far on this level
        self._begin_level()
        self._meter = Meter(len(stack.config.levels), self.device)
        self._metered_from = 0.0  # seconds

    def _begin_level(self) -> None:
        """Set up optimiser, states and average for the level that grows (joint mode: for all, once)."""
        if not self.ranks.first:  # draws of its own, for rows of its own
            torch.manual_seed(self.config.seed + self.ranks.rank)
        self.trained = [p for p in self.stack.parameters() if p.requires_grad] + self._more_parameters()
        self.optimizer = torch.optim.AdamW(
            self.trained,
            lr=self.config.learning_rate,
            betas=_BETAS,
            weight_decay=self.config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self._start()
        self.average = [p.detach().clone() for p in self.stack.parameters()] if self.config.average else []
        self.level_steps = 0
        for level in self.stack.levels:
            if isinstance(level, Level):  # always; ModuleList has no item type
                level.ngram_dropout = self.config.ngram_dropout if level.recurrent.requires_grad else 0.0

    # ---- what a subclass may change --------------------------------------------------------------------

    def _more_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters that are trained besides the stack's."""
        return []

    def _start(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Set the state of the streams: cold, or from its tensors in a checkpoint."""
        state = self._cold() if tensors is None else StackState.from_state_dict(self._own(tensors))
        self.state: Any = state.to(self.device)  # a special trainer has another kind

    def _cold(self, batch: int | None = None) -> Any:
        """The state of so many streams that have read nothing; None: of those of this rank."""
        return self.stack.start(self.rows.stop - self.rows.start if batch is None else batch)

    def _own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a state's tensors, this rank's rows."""
        return {name: t[(slice(None),) * _batch_dim(name) + (self.rows,)] for name, t in tensors.items()}

    def _reset(self, rows: Tensor) -> None:
        """The rows (B,) bool start cold with the next window."""
        self.state = self.state.reset(rows)

    def _loss(self, output: StackOutput, symbols: Tensor) -> Tensor:
        """What a step minimises, a scalar, from the stack's output for symbols (T, B)."""
        return self.stack.loss_nats(output, symbols)

    # ---- one step ------------------------------------------------------------------------------------

    def step(self) -> None:
        """Train on the next window."""
        window, cold = self.streams.next()
        share = (self.rows.stop - self.rows.start) / self.streams.batch
        symbols = torch.from_numpy(window[:, self.rows]).to(self.device).long()
        cold = cold[self.rows]
        if cold.any():
            self._reset(torch.from_numpy(cold).to(self.device))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            output = self.stack(symbols, self.state)
            loss = self._loss(output, symbols)
        self._descend(loss, share)
        self._calibrate(output.surprises_bits, output.events)
        self.state = output.state
        self.bytes += window.size
        with torch.no_grad():
            bits = self.stack.bits(output, symbols)
            self._meter.add(bits, output.events, window.size, level_bits=output.surprises_bits)

    def _calibrate(self, surprises_bits: Sequence[Tensor], events: Sequence[Tensor]) -> None:
        """Let the gates follow the window; those of several ranks the mean of what theirs would do."""
        self.stack.calibrate(surprises_bits, events)
        if surprises_bits and self.ranks.count > 1:
            self.ranks.sum_(self.stack.thresholds_bits).div_(self.ranks.count)

    def _descend(self, loss: Tensor, share: float = 1.0) -> None:
        """One step of the optimizer. share: of the loss in that of all ranks."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            self.ranks.descend_together(self.trained, share)
            torch.nn.utils.clip_grad_norm_([p for p in self.trained if p.grad is not None], self.config.clip)
            self.optimizer.step()
        self.steps += 1
        self.level_steps += 1
        self._follow_average()

    def _follow_average(self) -> None:
        if self.average:
            keep = min(1 - 1 / self.config.average, (1 + self.level_steps) / (10 + self.level_steps))
            with torch.no_grad():
                for mean, weight in zip(self.average, self.stack.parameters(), strict=True):
                    mean.lerp_(weight, 1 - keep)

    # ---- budget --------------------------------------------------------------------------------------

    @property
    def used(self) -> float:
        """Bytes or seconds, whichever the budget counts."""
        return float(self.bytes) if self.config.bytes is not None else self.seconds

    @property
    def share(self) -> float:
        """The part of the whole budget that is used, 0 to 1."""
        return min(self.used / self.config.budget, 1.0)

    @property
    def level_share(self) -> float:
        """The part used of what the level (joint: the stack) that is being trained may use."""
        joint = self.stack.config.mode == "joint"
        to_come = 1 if joint else len(self.stack.config.levels) - self.stack.growing
        budget = (self.config.budget - self.level_begun) / to_come
        return min((self.used - self.level_begun) / budget, 1.0) if budget > 0 else 1.0

    @property
    def learning_rate(self) -> float:
        return self.config.learning_rate_at(self.level_share)

    # ---- the loop ------------------------------------------------------------------------------------

    def run(
        self,
        report: Callable[[LogPoint], None] = lambda point: None,
        stop: Callable[[], bool] = lambda: False,
        log_seconds: float = 10.0,
    ) -> None:
        """Train until `finished`, or until `stop`, called after every step, returns True.

        `report` gets a LogPoint after the first step, about every `log_seconds` and after each validation.

        Raises
        ------
        TrainingError: the loss is no longer finite, or far larger than it was.
        """
        origin = time.monotonic() - self.seconds

        def clock() -> float:
            return self.ranks.agreed(time.monotonic() - origin)

        validating = 0.0
        self.ranks.follow_first([*self.stack.state_dict().values()])
        due = self.seconds
        while not self.finished:
            self.step()
            self.seconds = clock()
            ended, asked = self.level_share >= 1, self._validation_due()
            allowed = self.config.minutes is None or validating <= _VALIDATION_SHARE * self.seconds
            if ended or (asked and allowed):
                report(self._validate(self._read_meter()))
                validating += clock() - self.seconds
                if ended or 0 < self.config.patience <= self.stale:
                    self._end_level()
                    self.ranks.follow_first([*self.stack.state_dict().values()])
            elif self.seconds >= due:
                report(self._read_meter())
            if self._meter.bytes == 0:  # it was read
                due = self.seconds + log_seconds
                self.seconds = self._metered_from = clock()
            if stop():
                return

    def _validation_due(self) -> bool:
        passed = math.floor(self.level_share * self.config.validations)
        due = passed > self.validated
        self.validated = max(self.validated, passed)
        return due

    def _read_meter(self) -> LogPoint:
        bits, rates, level_bits = self._meter.read(self.ranks)
        self._refuse_divergence(bits)
        trained = self.stack.growing + 1
        point = LogPoint(
            bytes=self.bytes,
            seconds=round(self.seconds, 3),
            bits_per_byte=bits,
            rates=rates[:trained],
            thresholds_bits=self.stack.thresholds_bits[: trained - 1].tolist(),
            learning_rate=self.learning_rate,
            level_bits_per_byte=level_bits or None,
            bytes_per_second=round(self._meter.bytes / max(self.seconds - self._metered_from, 1e-9), 1),
        )
        self._meter.restart()
        return point

    def _refuse_divergence(self, bits: float) -> None:
        """Raise TrainingError if the bits of a byte are not finite, or more than twice what they have been
        and what knowing nothing costs."""
        if not math.isfinite(bits):
            raise TrainingError("the loss is no longer finite; start again with a lower learning rate")
        self.lowest_bits = min(self.lowest_bits, bits)
        if bits > 2 * max(self.lowest_bits, math.log2(self.stack.config.symbols)):
            grown = f"{bits:.4g} bits a byte, after {self.lowest_bits:.4g}"
            raise TrainingError(f"the training diverges: {grown}; start again with a lower learning rate")

    def _validate(self, point: LogPoint) -> LogPoint:
        """Score the validation lanes with the weights that would be saved, and keep the best."""
        with self._averaged():
            scored = self._score()
        if scored is None:
            self.best, self.best_figures = self._weights(), point.to_json()
            return point
        by_name, overall = scored
        self._refuse_divergence(overall)
        self.stale = 0 if overall < self.best_bits - _MIN_GAIN else self.stale + 1
        point = replace(point, validation_bits_per_byte=overall, validation=by_name)
        if overall < self.best_bits:
            self.best_bits, self.best, self.best_figures = overall, self._weights(), point.to_json()
        return point

    def _score(self) -> tuple[dict[str, float], float] | None:
        """Bits per byte of the validation text, by source and of all; None if there is none."""
        lanes = self.validation
        if lanes is None:
            return None
        bits = np.zeros(len(lanes.lengths))
        mine = slice(self.ranks.rank, None, self.ranks.count)  # every one as long as the others
        if len(bits[mine]):
            bits[mine], _ = self.stack.score_lanes(lanes.symbols[:, mine], lanes.lengths[mine], self.bfloat16)
        by_name = lanes.by_name(self.ranks.sum_(torch.from_numpy(bits)).numpy())
        return by_name, sum(s * b for s, b in zip(lanes.shares, by_name.values(), strict=True))

    def _end_level(self) -> None:
        """Joint: training is over. Faithful: grow, unless all levels are there or this one did not help."""
        if self.best is not None:
            self.stack.load_state_dict(self.best)
        config = self.stack.config
        last = config.mode == "joint" or self.stack.growing + 1 == len(config.levels)
        if last or not self._helped():
            self.finished = True
            return
        self.previous_bits, self.best_bits = self.best_bits, math.inf
        self.previous_figures = self.best_figures
        self.stale, self.validated = 0, 0
        self.level_begun = self.used
        self.stack.grow()
        self._begin_level()

    def _helped(self) -> bool:
        return self.validation is None or self.best_bits < self.previous_bits - _LEVEL_GAIN

    # ---- weights -------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        with self._averaged():
            return {name: tensor.detach().clone() for name, tensor in self.stack.state_dict().items()}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in place of the trained ones, for as long as the context lasts."""
        live = [p.detach().clone() for p in self.stack.parameters()] if self.average else []
        with torch.no_grad():
            for weight, mean in zip(self.stack.parameters(), self.average, strict=False):
                weight.copy_(mean)
            try:
                yield
            finally:
                for weight, kept in zip(self.stack.parameters(), live, strict=False):
                    weight.copy_(kept)

    def result(self) -> tuple[StackConfig, dict[str, Tensor], dict[str, Any]]:
        """What to save: the best weights without a level that did not help, and their log point."""
        config = self.stack.config
        tensors = self.best if self.best is not None else self._weights()
        if self._helped():
            levels, figures = self.stack.growing + 1, self.best_figures
        else:
            levels, figures = self.stack.growing, self.previous_figures
        if levels < len(config.levels):
            config, tensors = replace(config, levels=config.levels[:levels]), lower_levels(tensors, levels)
        return config, tensors, figures

    # ---- checkpoint ----------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that training goes on from: tensors by name, and JSON values."""
        tensors = {f"stack/{name}": t for name, t in self.stack.state_dict().items()}
        tensors |= {f"best/{name}": t for name, t in (self.best or {}).items()}
        tensors |= {f"average/{i}": t for i, t in enumerate(self.average)}
        cold = self._cold(self.streams.batch).state_dict() if self.ranks.count > 1 else {}
        for name, own in self.state.state_dict().items():
            whole = self.ranks.whole(own, self.streams.batch, _batch_dim(name), cold.get(name, own))
            tensors[f"state/{name}"] = whole
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": t for name, t in slots.items()}
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        for kind, own in states.items():
            every = own.unsqueeze(0)  # of ranks that are lost none is kept
            if not self.ranks.lost:
                every = self.ranks.whole(every, self.ranks.count, 0, own.repeat(self.ranks.count, 1))
            tensors |= {f"random/{_generator(kind, rank)}": state for rank, state in enumerate(every)}
        facts = {name: _to_json(getattr(self, name)) for name in _FACTS}
        return tensors, {**facts, "growing": self.stack.growing, "position": self.streams.position()}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a `snapshot` taken with the same configuration and corpus.

        Raises CheckpointError if the corpus, batch, window or piece is another one.
        """
        self.streams.seek(facts["position"])
        while self.stack.growing < facts["growing"]:
            self.stack.grow()
        self._begin_level()
        for name in _FACTS:
            setattr(self, name, math.inf if facts[name] is None else facts[name])
        self.lowest_bits = self.best_bits
        self.stack.load_state_dict(part(tensors, "stack"))
        best, average = part(tensors, "best"), part(tensors, "average")
        self.best = {k: t.to(self.device) for k, t in best.items()} if best else None
        self.average = [average[str(i)].to(self.device) for i in range(len(average))]
        self._start(part(tensors, "state"))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part(tensors, "optimizer").items():
            index, _, slot = name.partition("/")
            slots.setdefault(int(index), {})[slot] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        random, cpu, cuda = part(tensors, "random"), *(_generator(kind, self.ranks.rank) for kind in _KINDS)
        torch.manual_seed(self.config.seed + self.ranks.rank + self.steps)  # a rank that was not there before
        if cpu in random:
            torch.set_rng_state(random[cpu].cpu().clone())  # torch takes no view
        if self.device.type == "cuda" and cuda in random:
            torch.cuda.set_rng_state(random[cuda].cpu().clone(), self.device)
        # A longer budget than before: what was due already may be due again.
        self.validated = min(self.validated, math.floor(self.level_share * self.config.validations))
        self._metered_from = self.seconds
        self._meter.restart()


_KINDS = ("cpu", "cuda")  # of generators
_FACTS = (
    "bytes",
    "steps",
    "level_steps",
    "seconds",
    "level_begun",
    "finished",
    "best_bits",
    "best_figures",
    "previous_bits",
    "previous_figures",
    "stale",
    "validated",
)


def _batch_dim(name: str) -> int:
    """Which dimension of a state's tensor counts the streams."""
    return 1 if name == "pending" else 0  # of a WokenState


def _generator(kind: str, rank: int) -> str:
    """What a checkpoint calls a rank's generator."""
    return f"{kind}.{rank}" if rank else kind


def _to_json(value: Any) -> Any:
    """Infinity has no place in JSON."""
    return None if isinstance(value, float) and math.isinf(value) else value
