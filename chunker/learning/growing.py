"""Growing a faithful stack from one recorded stream, level by level, until nothing more is gained.

Schmidhuber 1992, section 3: a level is trained until it stops improving, and frozen; what it does not predict
is the next level's stream; and so on. Made for streams that fit in memory as events; the general trainer for
text is chunker.learning.trainer.

    stream --lanes--> level 0 --unexpected--> level 1 --unexpected--> ...
                      train, freeze           train, freeze, keep if it gains

Each level's gradients are cut after `window` of its own inputs, so that an upper level, whose inputs lie far
apart, learns over spans that a lower one cannot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from chunker.config import GateRule, StackConfig
from chunker.errors import CorpusError, UsageError
from chunker.learning.gate import NATS_PER_BIT, surprise_bits
from chunker.learning.level import Level
from chunker.learning.stack import Stack

Integers = npt.NDArray[np.int64]
_CHUNK = 4096  # symbols of all lanes per forward call
_LOOKED = 8192  # held-out inputs that are scored at a look
_WARM = 256  # inputs of each lane read before them


@dataclass(frozen=True)
class Growth:
    """How to grow.

    Attributes
    ----------
    width, cell: of every level. gate: see GateRule; "rate" cannot be grown with.
    max_levels: where growing ends at the latest.
    window, upper_window: own inputs through which the gradients of level 0 and of the others flow back.
    restart: share of the lanes that an upper level starts cold in, again at every window: with the few inputs
        that it has, it would learn them by heart.
    lanes: parts that the stream is cut into, read side by side, each from a cold start.
    learning_rate: Adam's. patience, upper_patience: level 0 and the others have stopped improving after so
        many looks at the held-out part without a gain of 1 % and 0.002 bits an input; looks come every `look`
        steps.
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
    patience: int = 4
    upper_patience: int = 12
    look: int = 50
    held_out: float = 0.2
    gain: float = 0.05
    max_steps: int = 4000
    max_seconds: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        if self.gate.rule == "rate":
            raise UsageError("a stack cannot grow with a target rate; use the argmax rule or a threshold")
        counts = (self.max_levels, self.window, self.upper_window, self.lanes, self.patience, self.look)
        if min(*counts, self.upper_patience, self.max_steps) < 1:
            raise UsageError("levels, windows, lanes, patience, look and steps must be at least 1")
        if not 0 < self.held_out < 1 or not 0 <= self.gain < 1:
            raise UsageError("the held-out share must lie between 0 and 1, the gain from 0 to below 1")
        if not 0 <= self.restart < 1:
            raise UsageError("the share of restarts must lie from 0 to below 1")
        if not self.learning_rate > 0 or not self.max_seconds > 0:
            raise UsageError("learning rate and seconds must be above 0")


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


def grow(symbols: Integers, alphabet: int, growth: Growth | None = None) -> tuple[Stack, list[LevelReport]]:
    """A stack grown on a stream (n,) of symbols from 0 to alphabet - 1, and a report of every level tried.

    The stop rule: a level stays if it lowers the bits of the held-out inputs that reach it by more than
    growth.gain; the first that does not is dropped, and growing ends. Level 0 always stays.

    Raises
    ------
    CorpusError: the stream is too short to be cut into lanes.
    """
    growth = growth or Growth()
    return _Grower(symbols, alphabet, growth).grow()


@dataclass(frozen=True)
class _Reading:
    """What the trained levels made of all lanes: bits that each symbol of the held-out part costs, (held, B),
    and per level (T, B) bool which symbols it received, last those that the highest trained one passes on."""

    bits: Tensor
    events: list[Tensor]


class _Grower:
    def __init__(self, symbols: Integers, alphabet: int, growth: Growth) -> None:
        self.growth, self.deadline = growth, time.monotonic() + growth.max_seconds
        self.lanes = _lanes(symbols, growth.lanes)
        self.cut = len(self.lanes) - max(1, int(len(self.lanes) * growth.held_out))
        if self.cut < 1:
            raise CorpusError(f"{len(symbols)} symbols are too few to grow a stack on; give more")
        torch.manual_seed(growth.seed)
        config = StackConfig(
            levels=(growth.width,) * (growth.max_levels + 1),  # one to see what the highest passes on
            cell=growth.cell,
            mode="faithful",
            symbols=alphabet,
            gate=growth.gate,
            time_code=growth.time_code,
        )
        self.stack = Stack(config)

    def grow(self) -> tuple[Stack, list[LevelReport]]:
        reports: list[LevelReport] = []
        every = torch.ones_like(self.lanes, dtype=torch.bool)
        unknown = torch.full(self.lanes[self.cut :].shape, math.log2(self.stack.config.symbols))
        before = _Reading(unknown, [every])
        while True:
            steps = self._train(before.events)
            trained = self.stack.growing + 1
            self.stack.grow()
            after = self._read()
            report = self._report(before, after, steps)
            reports.append(report)
            if not report.kept:
                return shortened(self.stack, trained - 1), reports
            if (
                trained == self.growth.max_levels
                or not report.unpredicted
                or time.monotonic() > self.deadline
            ):
                return shortened(self.stack, trained), reports
            before = after

    def _report(self, before: _Reading, after: _Reading, steps: int) -> LevelReport:
        held = slice(self.cut, None)
        mine, passed = after.events[-2][held], after.events[-1][held]
        cost_before, cost = float(before.bits[mine].sum()), float(after.bits[mine].sum())
        inputs = int(mine.sum())
        return LevelReport(
            inputs=inputs,
            rate=inputs / mine.numel(),
            bits_before=cost_before,
            bits=cost,
            unpredicted=float(passed.sum()) / max(inputs, 1),
            kept=len(after.events) == 2 or (inputs > 0 and cost < cost_before * (1 - self.growth.gain)),
            steps=steps,
        )

    @torch.no_grad()
    def _read(self) -> _Reading:
        """All lanes, read by the stack as it is, whose highest level is not yet trained."""
        state = self.stack.start(self.lanes.shape[1])
        bits, events, done = [], [], 0
        for window in torch.split(self.lanes, max(1, _CHUNK // self.lanes.shape[1])):
            output = self.stack(window, state)
            state = output.state
            done += len(window)
            if done > self.cut:
                trained = replace(output, level_logits=output.level_logits[:-1])
                bits.append(self.stack.bits(trained, window)[self.cut - done :])
            events.append(output.events)
        return _Reading(torch.cat(bits), [torch.cat(parts) for parts in zip(*events, strict=True)])

    def _train(self, events: list[Tensor]) -> int:
        """Train the growing level on its inputs, the last of `events` (T, B); the steps it took."""
        index = self.stack.growing
        symbols, clocks, at = _inputs(self.lanes, events)
        trained, held = (at >= 0) & (at < self.cut), at >= self.cut
        level = self.stack._level(index)
        return train_level(level, index, symbols, clocks, trained, held, self.growth, self.deadline)


def train_level(
    level: Level,
    index: int,
    symbols: Tensor,
    clocks: Tensor,
    trained: Tensor,
    held: Tensor,
    growth: Growth,
    deadline: float = math.inf,
) -> int:
    """Train level `index` of a stack on its inputs until it stops improving; the steps it took.

    symbols: (E, B). clocks: (E, B, max(l, 1)), see chunker.coding.history.Events. trained, held: (E, B) bool,
    the inputs to learn from, and those on which it is seen whether it improves.
    """
    if not bool(trained.any()):
        return 0
    checked = held if bool(held.any()) else trained
    if level.time_input is not None:
        nn.init.normal_(level.time_input, std=0.5)  # from 0, as for text, it learns too late here
    optimizer = torch.optim.Adam(level.parameters(), lr=growth.learning_rate, betas=(0.9, 0.99))
    best, best_bits, stale, steps = _weights(level), math.inf, 0, 0
    for loss in _losses(level, index > 0, symbols, clocks, trained, growth):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(level.parameters(), 1.0)
        optimizer.step()
        steps += 1
        over = steps >= growth.max_steps or time.monotonic() >= deadline
        if steps % growth.look and not over:
            continue
        bits = _bits_per_input(level, symbols, clocks, checked)
        stale = 0 if bits < best_bits - max(0.01 * best_bits, 0.002) else stale + 1
        if bits < best_bits:
            best, best_bits = _weights(level), bits
        if over or stale == (growth.upper_patience if index else growth.patience):
            break
    level.load_state_dict(best)
    return steps


def _inputs(lanes: Tensor, events: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs of the last of the levels whose events (T, B) are given, side by side.

    Returns symbols (E, B), their numbers on the clocks of the levels below (E, B, max(l, 1)), and their times
    (E, B), -1 where a row received fewer than E.
    """
    own, below = events[-1], events[:-1] or events
    longest = int(own.sum(0).max())
    columns = [own[:, row].nonzero()[:, 0] for row in range(own.shape[1])]
    at = torch.stack([nn.functional.pad(c, (0, longest - len(c)), value=-1) for c in columns], 1)
    there = at.clamp_min(0)
    clocks = torch.stack([(e.cumsum(0) - 1).gather(0, there) for e in below], -1)
    return lanes.gather(0, there), clocks, at


def _losses(
    level: Level, upper: bool, symbols: Tensor, clocks: Tensor, trained: Tensor, growth: Growth
) -> Iterator[Tensor]:
    """The loss of each window, in nats an input, pass after pass without end.

    The state is carried over from window to window, its gradient is not.
    """
    times = _times_of(clocks)
    window, restart = (growth.upper_window, growth.restart) if upper else (growth.window, 0.0)
    end = int(trained.any(1).nonzero().max()) + 1
    while True:
        state = level.start(symbols.shape[1])
        for start in range(0, end, window):
            part = slice(start, min(start + window, end))
            if restart:
                state = state.reset(torch.rand(symbols.shape[1]) < restart)
            hs, cs = level(symbols[part], state, times[part, :, 0])
            nats = _nats(level, torch.cat([state.h.unsqueeze(0), hs[:-1]]), symbols[part], times[part])
            if bool(trained[part].any()):
                yield (nats * trained[part]).sum() / trained[part].sum()
            state = replace(state, h=hs[-1].detach(), c=None if cs is None else cs[-1].detach())


def _times_of(clocks: Tensor) -> Tensor:
    """(E, B, l) inputs of the levels below since the input before, from their numbers."""
    first = torch.full_like(clocks[:1], -1)
    return torch.diff(clocks, dim=0, prepend=first).clamp_min(1)


def _nats(level: Level, h: Tensor, symbols: Tensor, times: Tensor) -> Tensor:
    """(E, B): what the states (E, B, H) pay for the next inputs, their times included."""
    nats = surprise_bits(level.logits(h), symbols) * NATS_PER_BIT
    if level.clocks:
        # times are often pure chance: they must not shape the state, only be read from it
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
    hs, _ = level(symbols[warm:end], level.start(symbols.shape[1]), times[warm:end, :, 0])
    before = torch.cat([hs.new_zeros(hs[:1].shape), hs[:-1]])
    nats = _nats(level, before, symbols[warm:end], times[warm:end]) * counted[warm:end]
    return float(nats.sum()) / NATS_PER_BIT / int(counted[warm:end].sum())


def _weights(level: Level) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in level.state_dict().items()}


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
    from chunker.learning.convert import build_stack, to_file
    from chunker.learning.stack import lower_levels

    config = replace(stack.config, levels=stack.config.levels[:levels])
    copy = build_stack(config, to_file(lower_levels(stack.state_dict(), levels)))
    return copy.requires_grad_(False)
