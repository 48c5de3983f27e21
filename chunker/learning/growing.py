"""Growing a faithful stack from one recorded stream, level by level, until nothing more is gained.

Schmidhuber 1992, section 3: a level is trained until it stops improving, and frozen; what it does not predict
is the next level's stream; and so on. The whole stream is in memory, cut into lanes, and each level sees its
own inputs only; `chunker.learning.trainer` trains on text of any size, `chunker.learning.pretraining` on many
sequences of symbols or vectors.

    stream --lanes--> level 0 --unexpected--> level 1 --unexpected--> ...
                      train, freeze           train, freeze, keep if it gains

Each level's gradients are cut after `window` of its own inputs, so that an upper level, whose inputs lie far
apart, learns over spans that a lower one cannot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from chunker.config import GateRule, StackConfig
from chunker.errors import CorpusError, UsageError
from chunker.learning.fitting import EarlyStopping, descend
from chunker.learning.gate import unexpected
from chunker.learning.level import Level
from chunker.learning.observation import NATS_PER_BIT, surprise_bits
from chunker.learning.packing import pack
from chunker.learning.stack import Stack, lower_levels

Integers = npt.NDArray[np.int64]
_CHUNK = 4096  # inputs of all lanes per forward call
_LOOKED = 8192  # held-out inputs that are scored at a look
_GAIN = 0.01  # share of the bits by which a look must improve
_WARM = 256  # inputs of each lane read before them


@dataclass(frozen=True)
class GrowConfig:
    """How to grow.

    Attributes
    ----------
    width, cell: of every level. gate: see GateRule; "rate" cannot be grown with.
    max_levels: where growing ends at the latest.
    window, upper_window: own inputs through which the gradients of level 0 and of the others flow back.
    restart: share of the lanes, drawn anew at every window, in which an upper level restarts from a cold
        state. It has few inputs, and would otherwise memorise them.
    lanes: parts that the stream is cut into, read side by side, each from a cold start.
    learning_rate, upper_learning_rate: Adam's, of level 0 and of the others.
    check_every: steps between two looks at the held-out part.
    patience, upper_patience: level 0, or one of the others, stops after so many looks in a row that do not
        lower its bits per input by 1 % and by `least`.
    cool: steps at the end of level 0 in which its learning rate falls to 0. At a constant high rate its
        probabilities follow the last few inputs, and a level that is overconfident by chance passes too
        little on.
    held_out: share at the end of every lane that is not trained on.
    gain: a level is kept if it lowers the bits of the held-out inputs that reach it by more than this share.
    max_steps: of each level. max_seconds: of all.

    Raises
    ------
    UsageError: a value that makes no sense.
    """

    width: int = 32
    cell: str = "gru"
    gate: GateRule = field(default_factory=lambda: GateRule("surprise", 0.5))
    time_code: bool = True
    max_levels: int = 6
    window: int = 10
    upper_window: int = 4
    restart: float = 0.3
    lanes: int = 16
    learning_rate: float = 1e-2
    upper_learning_rate: float = 1e-2
    patience: int = 4
    upper_patience: int = 12
    check_every: int = 50
    least: float = 0.002
    cool: int = 0
    held_out: float = 0.2
    gain: float = 0.05
    max_steps: int = 4000
    max_seconds: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        if self.gate.rule == "rate":
            raise UsageError("a stack cannot grow with a target rate; use the argmax rule or a threshold")
        counts = (
            self.max_levels,
            self.window,
            self.upper_window,
            self.lanes,
            self.patience,
            self.check_every,
        )
        if min(*counts, self.upper_patience, self.max_steps) < 1:
            raise UsageError("levels, windows, lanes, patience, look and steps must be at least 1")
        if not 0 < self.held_out < 1 or not 0 <= self.gain < 1:
            raise UsageError("the held-out share must lie between 0 and 1, the gain from 0 to below 1")
        if not self.least >= 0 or self.cool < 0:
            raise UsageError("the least gain in bits and the steps to cool cannot be below 0")
        if not 0 <= self.restart < 1:
            raise UsageError("the share of restarts must lie from 0 to below 1")
        if not min(self.learning_rate, self.upper_learning_rate) > 0 or not self.max_seconds > 0:
            raise UsageError("learning rates and seconds must be above 0")


@dataclass(frozen=True)
class LevelReport:
    """What one level was given and made of it, on the held-out part.

    inputs: that it received; rate: their share of all symbols. bits_before, bits: what these inputs cost
    without and with the level under the whole stack. unpredicted: share of its inputs that it passes on.
    kept: whether it gained enough. steps: of training.
    """

    inputs: int
    rate: float
    bits_before: float
    bits: float
    unpredicted: float
    kept: bool
    steps: int

    @property
    def gain(self) -> float:
        """Share of the bits that the level saved."""
        return 1 - self.bits / self.bits_before if self.bits_before else 0.0


def grow(
    symbols: Integers,
    alphabet: int,
    config: GrowConfig | None = None,
    report: Callable[[LevelReport], None] | None = None,
    enough: Callable[[Stack], bool] | None = None,
) -> tuple[Stack, list[LevelReport]]:
    """A stack grown on a stream (n,) of symbols from 0 to alphabet - 1, and a report of every level tried.

    The stop rule: a level stays if it lowers the bits of the held-out inputs that reach it by more than
    config.gain; the first that does not is dropped, and growing ends. Level 0 always stays. Growing ends as
    well where nothing is passed on, at config.max_levels, and when the time is up.

    report: gets each level's report as soon as the level is trained.
    enough: whether a stack of two levels or more already does what it is grown for; growing then ends.

    >>> rhythm = np.arange(800) % 4
    >>> stack, reports = grow(rhythm, 4, GrowConfig(width=8, lanes=8, max_steps=200))
    >>> len(stack.config.levels), reports[0].unpredicted  # one level predicts everything: nothing is left
    (1, 0.0)
    >>> len(stack.compress_history(rhythm[:100]).levels)
    1

    Raises
    ------
    CorpusError: the stream is too short to be cut into lanes.
    """
    config = config or GrowConfig()
    ignore, never = (lambda one: None), (lambda stack: False)
    return _Grower(symbols, alphabet, config, report or ignore, enough or never).grow()


@dataclass(frozen=True)
class _Inputs:
    """What one level l receives, and what the levels below made of it.

    symbols: (E, B). clocks: (E, B, max(l, 1)), their numbers on the clocks of the levels below. at: (E, B),
    their times, -1 where a lane received fewer than E.
    bits, states: of the N held-out ones, lane after lane: their cost under the levels below, (N,), and the
    states of these levels before them, lowest first, each (N, H).
    """

    symbols: Tensor
    clocks: Tensor
    at: Tensor
    bits: Tensor
    states: list[Tensor]


class _Grower:
    def __init__(
        self,
        symbols: Integers,
        alphabet: int,
        growth: GrowConfig,
        report: Callable[[LevelReport], None],
        enough: Callable[[Stack], bool],
    ) -> None:
        self.config, self.deadline = growth, time.monotonic() + growth.max_seconds
        self.tell, self.enough = report, enough
        self.lanes = _lanes(symbols, growth.lanes)
        self.cut = len(self.lanes) - max(1, int(len(self.lanes) * growth.held_out))
        if self.cut < 1:
            raise CorpusError(f"{len(symbols)} symbols are too few to grow a stack on; give more")
        torch.manual_seed(growth.seed)
        config = StackConfig(
            levels=(growth.width,) * (growth.max_levels + 1),  # one more, or the highest would learn no times
            cell=growth.cell,
            mode="faithful",
            symbols=alphabet,
            gate=growth.gate,
            time_code=growth.time_code,
        )
        self.stack = Stack(config)

    def grow(self) -> tuple[Stack, list[LevelReport]]:
        reports: list[LevelReport] = []
        inputs = self._all()
        while True:
            steps = self._train(inputs)
            bits, passed = self._read(inputs)
            reports.append(self._report(inputs, bits, passed, steps))
            self.tell(reports[-1])
            trained = len(reports)
            if not reports[-1].kept:
                return shortened(self.stack, trained - 1), reports
            there = shortened(self.stack, trained)
            ended = trained == self.config.max_levels or not reports[-1].unpredicted or self._late()
            if ended or (trained > 1 and self.enough(there)):
                return there, reports
            self.stack.grow()
            inputs = passed

    def _late(self) -> bool:
        return time.monotonic() >= self.deadline

    def _all(self) -> _Inputs:
        """What level 0 receives: everything."""
        at = torch.arange(len(self.lanes)).unsqueeze(1).expand_as(self.lanes)
        held = (len(self.lanes) - self.cut) * self.lanes.shape[1]
        unknown = torch.full((held,), math.log2(self.stack.config.symbols))
        return _Inputs(self.lanes, at.unsqueeze(-1), at, unknown, [])

    def _report(self, inputs: _Inputs, bits: Tensor, passed: _Inputs, steps: int) -> LevelReport:
        cost_before, cost, received = float(inputs.bits.sum()), float(bits.sum()), len(bits)
        return LevelReport(
            inputs=received,
            rate=received / ((len(self.lanes) - self.cut) * self.lanes.shape[1]),
            bits_before=cost_before,
            bits=cost,
            unpredicted=len(passed.bits) / max(received, 1),
            kept=not inputs.states or (received > 0 and cost < cost_before * (1 - self.config.gain)),
            steps=steps,
        )

    @torch.no_grad()
    def _read(self, inputs: _Inputs) -> tuple[Tensor, _Inputs]:
        """What the held-out inputs cost (N,) now that the growing level is trained, and what it passes on.

        The levels below are frozen, so only this one is run, on its own inputs. When the time is up no other
        level will be trained: then only the held-out part is read, after some inputs to warm up on.
        """
        index = self.stack.growing
        level, limit = self.stack.level(index), self.stack.thresholds_bits[index]
        begin = 0
        if self._late():
            begin = max(0, int((inputs.at < self.cut).all(1).sum()) - _WARM)
        symbols, clocks, at = inputs.symbols[begin:], inputs.clocks[begin:], inputs.at[begin:]
        there, held, times = at >= 0, at >= self.cut, _times_of(inputs.clocks)[begin:]
        state, befores, surprises, missed = level.start(symbols.shape[1]), [], [], []
        for part in torch.split(torch.arange(len(symbols)), max(1, _CHUNK // symbols.shape[1])):
            values, state = level.run(symbols[part], state, times[part, :, 0])
            before = values[:-1]
            logits = level.logits(before)
            surprises.append(surprise_bits(logits, symbols[part]))
            missed.append(unexpected(level.observation, logits, symbols[part], self.config.gate, limit))
            befores.append(before)
            if level.clocks:
                wrong, remembered = self.stack.mistimed(
                    index, level.time_logits(before), times[part], there[part], state.remembered
                )
                missed[-1] |= wrong[:-1]
                state = replace(state, remembered=remembered)
        goes_up = torch.cat(missed)
        goes_up[0] = True  # a lane's first input goes up to every level
        goes_up &= there
        mine = held.t()  # lane after lane, as _Inputs has it
        states = [*inputs.states, torch.cat(befores).transpose(0, 1)[mine]]
        bits = torch.cat(surprises).t()[mine]
        if inputs.states:
            bits = self._bits(states, symbols.t()[mine])
        up = goes_up.t()[mine]
        left = _passed(_Inputs(symbols, clocks, at, bits[up], [one[up] for one in states]), goes_up, begin)
        return bits, left

    def _bits(self, states: list[Tensor], symbols: Tensor) -> Tensor:
        """(N,) what symbols (N,) cost under the trained levels together, in the states (N, H) of each."""
        bits = []
        for part in torch.split(torch.arange(len(symbols)), _CHUNK):
            logits = [self.stack.level(i).logits(one[part]) for i, one in enumerate(states)]
            mixed = self.stack.combine(logits)
            bits.append(-mixed.gather(-1, symbols[part].unsqueeze(-1))[:, 0] / NATS_PER_BIT)
        return torch.cat(bits) if bits else symbols.new_zeros(0, dtype=torch.float32)

    def _train(self, inputs: _Inputs) -> int:
        """Train the growing level on its inputs; the steps it took."""
        index, at = self.stack.growing, inputs.at
        trained, held = (at >= 0) & (at < self.cut), at >= self.cut
        level = self.stack.level(index)
        return train_level(
            level, index, inputs.symbols, inputs.clocks, trained, held, self.config, self.deadline
        )


def _passed(inputs: _Inputs, goes_up: Tensor, begin: int) -> _Inputs:
    """Of a level's inputs, the first with the number `begin`, those that go up, (E, B) bool, side by side."""
    E, B = goes_up.shape
    numbers = torch.arange(begin, begin + E).view(E, 1, 1).expand(E, B, 1)
    # level 0's own numbers are its clock
    clocks = torch.cat([inputs.clocks, numbers], -1) if len(inputs.states) > 1 else numbers
    symbols, clocks, at = pack(goes_up, inputs.symbols, clocks, inputs.at)
    there = torch.arange(len(at)).unsqueeze(1) < goes_up.sum(0)
    return replace(inputs, symbols=symbols, clocks=clocks, at=torch.where(there, at, -1))


def train_level(
    level: Level,
    index: int,
    symbols: Tensor,
    clocks: Tensor,
    trained: Tensor,
    held: Tensor,
    config: GrowConfig,
    deadline: float = math.inf,
) -> int:
    """Train level `index` of a stack on its inputs until it stops improving; the steps it took.

    symbols: (E, B). clocks: (E, B, max(l, 1)), see chunker.core.history.Events. trained, held: (E, B) bool,
    the inputs to learn from, and those on which it is seen whether it improves.
    """
    if not bool(trained.any()):
        return 0
    checked = held if bool(held.any()) else trained
    if level.time_input is not None:
        nn.init.normal_(level.time_input, std=0.5)  # from 0, as for text, it learns too late here
    rate = config.upper_learning_rate if index else config.learning_rate
    patience = config.upper_patience if index else config.patience
    stopping = EarlyStopping(level, patience, _GAIN, config.least)
    cooling: int | None = None  # steps that are left of it

    def learning_rate(step: int) -> float:
        return rate if cooling is None else rate * cooling / config.cool

    steps = 0
    losses = _losses(level, index > 0, symbols, clocks, trained, config)
    for steps in descend(losses, level.parameters(), learning_rate):
        over = time.monotonic() >= deadline
        if cooling is not None:
            cooling -= 1
            if cooling and not over:
                continue
            stopping.keep()  # whether or not its bits are fewer: it is the better calibrated
            break
        over = over or steps >= config.max_steps
        if steps % config.check_every and not over:
            continue
        stopped = stopping.look(_bits_per_input(level, symbols, clocks, checked), steps)
        if over or stopped:
            if over or index or not config.cool:
                break
            cooling = config.cool
    stopping.restore()
    return steps


def _losses(
    level: Level, upper: bool, symbols: Tensor, clocks: Tensor, trained: Tensor, config: GrowConfig
) -> Iterator[Tensor]:
    """The loss of each window, in nats an input, pass after pass without end.

    The state is carried over from window to window, its gradient is not.
    """
    times = _times_of(clocks)
    window, restart = (config.upper_window, config.restart) if upper else (config.window, 0.0)
    end = int(trained.any(1).nonzero().max()) + 1
    while True:
        state = level.start(symbols.shape[1])
        for start in range(0, end, window):
            part = slice(start, min(start + window, end))
            if restart:
                state = state.reset(torch.rand(symbols.shape[1]) < restart)
            values, state = level.run(symbols[part], state, times[part, :, 0])
            if bool(trained[part].any()):
                nats = _nats(level, values[:-1], symbols[part], times[part])
                yield (nats * trained[part]).sum() / trained[part].sum()
            state = state.detach()


def _times_of(clocks: Tensor) -> Tensor:
    """(E, B, l) inputs of the levels below since the input before, from their numbers."""
    first = torch.full_like(clocks[:1], -1)
    return torch.diff(clocks, dim=0, prepend=first).clamp_min(1)


def _nats(level: Level, h: Tensor, symbols: Tensor, times: Tensor) -> Tensor:
    """(E, B): cost of the next inputs in nats, their times included, as predicted in the states (E, B, H)."""
    nats = surprise_bits(level.logits(h), symbols) * NATS_PER_BIT
    if level.clocks:
        # times are often random: their gradient must not reach the state
        nats = (
            nats + surprise_bits(level.time_logits(h.detach()), level.buckets(times)).sum(-1) * NATS_PER_BIT
        )
    return nats


@torch.no_grad()
def _bits_per_input(level: Level, symbols: Tensor, clocks: Tensor, counted: Tensor) -> float:
    """What the counted inputs cost; of long streams the first of them only, warmed up on some before."""
    times = _times_of(clocks)
    first = int(counted.any(1).nonzero().min())
    end = first + max(_LOOKED // symbols.shape[1], 1)
    warm = max(0, first - _WARM)
    values, _ = level.run(symbols[warm:end], level.start(symbols.shape[1]), times[warm:end, :, 0])
    nats = _nats(level, values[:-1], symbols[warm:end], times[warm:end]) * counted[warm:end]
    return float(nats.sum()) / NATS_PER_BIT / int(counted[warm:end].sum())


def _lanes(symbols: Integers, lanes: int) -> Tensor:
    """The stream (n,) cut into (T, B) lanes; what does not fill a lane is left out."""
    length = len(symbols) // lanes
    if length < 2:
        raise CorpusError(
            f"{len(symbols)} symbols cannot be cut into {lanes} lanes; give more, or fewer lanes"
        )
    return torch.from_numpy(np.ascontiguousarray(symbols[: length * lanes].reshape(lanes, length).T)).long()


def shortened(stack: Stack, levels: int) -> Stack:
    """A copy of the lowest levels of a stack, complete and frozen as a stack of its own."""
    config = replace(stack.config, levels=stack.config.levels[:levels])
    return Stack.complete(config, lower_levels(stack.state_dict(), levels)).eval().requires_grad_(False)
