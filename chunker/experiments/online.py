"""Two nets that learn at the same time, online, until the lower one no longer needs the upper one.

    x --+--> lower net A --> P(next input), and by a linear regressor the upper net's state
        |        | what A did not expect
        '--------+-----> upper net C --> P(next of its inputs); its state is held in between

`two_nets`    the two-net version of Schmidhuber 1992 (Learning complex, extended sequences using the
              principle of history compression, Neural Computation 4(2):234-242, the section on it:
              automatizer and chunker). C reads only the inputs that A did not expect, and the time since its
              last one; before it reads such an input it is trained to predict it.
`continuous`  the continuous version of Schmidhuber, Mozer and Prelinger 1993 (Continuous history
              compression): C reads every input, and its state moves by more the more surprising the input is.
              Here h <- (1 - alpha) h + alpha cell(h, x)
              with alpha = 1 - p(x)^k = 1 - exp(-k nats), p by A. C's loss on x is weighted by alpha, as C of
              the two nets learns only what A failed on.

In both A learns its own next input and the state of C, held between C's inputs and normalised. Nothing flows
from this regression into C, nor from C's loss or alpha into A, and A does not read C's state. No gradient of
A goes back further than `window` symbols. C of the two nets replays the last `upper_window` of its own
inputs; the continuous one, which has every symbol for an input, is cut with A's window.

The pair predicts as A where A expects some symbol, that is, where one would not be passed up, and as C
elsewhere. Both run on `rows` unbroken streams side by side, read once. Solved: on 512 fresh sequences the
right label has a probability above 3/4, of labels.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chunker.config import GateRule, StackConfig
from chunker.data import Lag20, Task, stream
from chunker.experiments.baselines import SURE, of_asked
from chunker.experiments.results import Row
from chunker.learning.gate import expected_set
from chunker.learning.level import Level
from chunker.learning.observation import NATS_PER_BIT, surprise_bits

_TESTS, _TEST_ROWS, _WARM = 512, 64, 2  # sequences, streams, sequences of each stream that are not counted
_MEMORY = 0.99  # of the running mean and variance of C's units, per window


@dataclass(frozen=True)
class Plan:
    """How the two nets are made and trained.

    lower, upper: widths, in units. rows: streams side by side. window: symbols that A's gradients go back.
    upper_window: C's own inputs that its gradients go back. bits: surprise above which an input is
    unexpected. power: k of the continuous version. weight: of the regression (squared error of the normalised
    state, mean of its units) beside the next symbol's nats. test_every: sequences.
    """

    lower: int = 64
    upper: int = 64
    rows: int = 16
    window: int = 3
    upper_window: int = 3
    bits: float = 0.2
    power: float = 2.0
    weight: float = 4.0
    learning_rate: float = 3e-3
    test_every: int = 160


@dataclass(frozen=True)
class Past:
    """What C replays, B rows: `before` (B, H), its state before the inputs `symbols` (K, B) that it received
    `times` (K, B) symbols after the last; and how many symbols it has been waiting `since` (B,)."""

    before: Tensor
    symbols: Tensor
    times: Tensor
    since: Tensor


@dataclass(frozen=True)
class PairState:
    """lower, upper: (B, H) hidden states, without gradient. past: of the two-net version."""

    lower: Tensor
    upper: Tensor
    past: Past | None = None


class Reading(NamedTuple):
    """A window of T symbols in B rows.

    lower, upper: (T, B, H) states after each symbol. moved: (T, B) float, how far each symbol moved C: 0 or
    1, or alpha. loss: C's, in nats, the sum over its inputs divided by T B. state: after the window.
    """

    lower: Tensor
    upper: Tensor
    moved: Tensor
    loss: Tensor
    state: PairState


class Pair(nn.Module, ABC):
    """A lower and an upper net, and A's regressor of C's state. timed: C reads times between its inputs."""

    timed: ClassVar[bool]

    def __init__(self, symbols: int, plan: Plan) -> None:
        super().__init__()
        self.plan, self.gate = plan, GateRule("surprise", plan.bits)
        config = StackConfig(levels=(plan.lower, plan.upper), symbols=symbols, time_code=self.timed)
        self.lower, self.upper = Level.of(config, 0), Level.of(config, 1)
        self.regressor = nn.Linear(plan.lower, plan.upper)
        self.register_buffer("mean", torch.zeros(plan.upper))
        self.register_buffer("variance", torch.ones(plan.upper))
        self.mean: Tensor
        self.variance: Tensor

    @abstractmethod
    def move(self, symbols: Tensor, bits: Tensor, state: PairState) -> tuple[PairState, Tensor, Tensor]:
        """C reads inputs (B,) that cost A (B,) bits: state, how far it moved, sum of its losses."""

    def start(self, rows: int) -> PairState:
        """Nothing read yet."""
        return PairState(torch.zeros(rows, self.plan.lower), torch.zeros(rows, self.plan.upper))

    def forward(self, symbols: Tensor, state: PairState) -> Reading:
        """Both nets over symbols (T, B)."""
        hs, _ = self.lower(symbols, replace(self.lower.start(symbols.shape[1]), h=state.lower))
        before = torch.cat([state.lower.unsqueeze(0), hs[:-1]]).detach()
        with torch.no_grad():
            bits = surprise_bits(self.lower.logits(before), symbols)
        states, moves, loss = [], [], hs.new_zeros(())
        for t in range(len(symbols)):
            state, moved, more = self.move(symbols[t], bits[t], state)
            states.append(state.upper)
            moves.append(moved)
            loss = loss + more
        state = replace(state, lower=hs[-1].detach(), upper=state.upper.detach())
        return Reading(hs, torch.stack(states), torch.stack(moves), loss / symbols.numel(), state)

    def loss(self, reading: Reading, wanted: Tensor) -> Tensor:
        """What A and C are to make small; wanted: (T, B) the next symbols."""
        target = reading.upper.detach()
        if self.training:
            self.mean.lerp_(target.mean((0, 1)), 1 - _MEMORY)
            self.variance.lerp_((target - self.mean).square().mean((0, 1)), 1 - _MEMORY)
        target = (target - self.mean) / (self.variance.sqrt() + 1e-3)
        logits = self.lower.logits(reading.lower).flatten(0, 1)
        regression: Tensor = (self.regressor(reading.lower) - target).square().mean()
        return (
            nn.functional.cross_entropy(logits, wanted.flatten())
            + self.plan.weight * regression
            + reading.loss
        )

    def predict(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Next symbol's probabilities (n, V) by A alone and by the pair, from states (n, H)."""
        logits = self.lower.logits(lower)
        alone = torch.softmax(logits, -1)
        expects = expected_set(logits, self.gate, torch.tensor(self.plan.bits)).any(-1, keepdim=True)
        return alone, torch.where(expects, alone, torch.softmax(self.upper.logits(upper), -1))


class TwoNets(Pair):
    """C ticks only on what A did not expect (Schmidhuber 1992), and predicts symbols, not times.

    A cold C replays `upper_window` symbols 0 that were not there, until it has as many inputs of its own.
    """

    timed = True

    def start(self, rows: int) -> PairState:
        state = super().start(rows)
        zeros = torch.zeros(self.plan.upper_window, rows, dtype=torch.int64)
        return replace(state, past=Past(state.upper, zeros, zeros + 1, zeros[0]))

    def move(self, symbols: Tensor, bits: Tensor, state: PairState) -> tuple[PairState, Tensor, Tensor]:
        past = state.past
        if past is None:
            raise TypeError("the state is not one of this pair")
        missed = bits > self.plan.bits
        since, rows = past.since + 1, missed.nonzero()[:, 0]
        if not len(rows):
            return replace(state, past=replace(past, since=since)), missed.float(), bits.new_zeros(())
        inputs = torch.cat([past.symbols[:, rows], symbols[rows].unsqueeze(0)])
        times = torch.cat([past.times[:, rows], since[rows].unsqueeze(0)])
        begin = replace(self.upper.start(len(rows)), h=past.before[rows])
        hs, _ = self.upper(inputs, begin, times)
        loss = nn.functional.cross_entropy(self.upper.logits(hs[-2]), symbols[rows], reduction="sum")
        after = Past(
            before=past.before.index_copy(0, rows, hs[0].detach()),
            symbols=past.symbols.index_copy(1, rows, inputs[1:]),
            times=past.times.index_copy(1, rows, times[1:]),
            since=since.masked_fill(missed, 0),
        )
        upper = state.upper.index_copy(0, rows, hs[-1].detach())
        return replace(state, upper=upper, past=after), missed.float(), loss


class Continuous(Pair):
    """C moves by as much as an input surprises A (Schmidhuber, Mozer and Prelinger 1993)."""

    timed = False

    def move(self, symbols: Tensor, bits: Tensor, state: PairState) -> tuple[PairState, Tensor, Tensor]:
        alpha = strength(bits, self.plan.power)
        losses = nn.functional.cross_entropy(self.upper.logits(state.upper), symbols, reduction="none")
        h, _ = self.upper.step(symbols, replace(self.upper.start(len(symbols)), h=state.upper))
        upper = torch.lerp(state.upper, h, alpha.unsqueeze(1))
        return replace(state, upper=upper), alpha, (alpha * losses).sum()


def strength(bits: Tensor, power: float) -> Tensor:
    """alpha = 1 - p^k of inputs with a surprise of -log2 p bits: 0 if it is 0, and towards 1 as it grows."""
    return -torch.expm1(-power * NATS_PER_BIT * bits)


def two_nets(
    seed: int, *, max_sequences: int = 35_000, max_seconds: float = 120.0, plan: Plan | None = None
) -> Row:
    """The two-net version on the lag-20 stream, until A alone solves it or the budget is used up.

    The row's solved: by the pair; sequences, seconds: read and taken until then, or in all. more: `alone_at`,
    sequences until A alone solved it, or None; `passed_up_first`, `passed_up_last`, share of the inputs that
    C received in the first and in the last `test_every` sequences; `seconds_in_all`.
    """
    return _train("two-nets-online", TwoNets, seed, max_sequences, max_seconds, plan or Plan())


def continuous(
    seed: int, *, max_sequences: int = 35_000, max_seconds: float = 120.0, plan: Plan | None = None
) -> Row:
    """As `two_nets`, the continuous version; its `passed_up_...` are means of alpha."""
    return _train("continuous", Continuous, seed, max_sequences, max_seconds, plan or Plan())


def _train(net: str, kind: type[Pair], seed: int, max_sequences: int, max_seconds: float, plan: Plan) -> Row:
    task = Lag20()
    rng, tests = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    pair = kind(task.symbols, plan)
    optimizer = torch.optim.Adam(pair.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99))
    rows = max(1, min(plan.rows, max_sequences))
    lanes, length = _lanes(task, rows, max_sequences // rows, rng)
    state, seconds, tested, moved = pair.start(rows), 0.0, 0, list[float]()
    solved_at, alone_at = None, None
    for at in range(0, len(lanes) - 1, plan.window):
        begun = time.monotonic()
        window = lanes[at : at + plan.window + 1]
        reading = pair(window[:-1], state)
        loss = pair.loss(reading, window[1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for part in pair.children():  # not together: one net's gradients would scale the other's
            nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimizer.step()
        state = reading.state
        moved.append(float(reading.moved.mean()))
        seconds += time.monotonic() - begun
        sequences = rows * math.ceil((at + len(window)) / length)
        over = at + plan.window >= len(lanes) - 1 or seconds >= max_seconds
        if over or sequences - tested >= plan.test_every:
            tested = sequences
            alone, together = _solves(pair, task, tests)
            if together and solved_at is None:
                solved_at = sequences, seconds
            if alone and alone_at is None:
                alone_at = sequences
            if over or (solved_at and alone_at):
                break
    span = math.ceil(plan.test_every * length / (rows * plan.window))  # windows
    more = {
        "alone_at": alone_at,
        "passed_up_first": round(float(np.mean(moved[:span])), 4),
        "passed_up_last": round(float(np.mean(moved[-span:])), 4),
        "seconds_in_all": round(seconds, 2),
    }
    return Row(net, seed, solved_at is not None, *(solved_at or (sequences, seconds)), more)


def _lanes(task: Task, rows: int, each: int, rng: np.random.Generator) -> tuple[Tensor, int]:
    """Unbroken streams (T, rows) of `each` sequences, and the symbols of a sequence, always as many."""
    drawn = stream(task, rows * each, rng)
    lanes = torch.from_numpy(drawn.symbols).view(rows, -1).t().contiguous()
    return lanes, len(lanes) // each


@torch.no_grad()
def _solves(pair: Pair, task: Task, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether all labels of fresh sequences are right, by A alone and by the pair."""
    lanes, length = _lanes(task, _TEST_ROWS, _WARM + _TESTS // _TEST_ROWS, rng)
    reading = pair(lanes[:-1], pair.start(_TEST_ROWS))
    ends = slice(length * (_WARM + 1) - 2, None, length)  # the symbols before the labels
    right = lanes[1:][ends].reshape(-1, 1)
    predicted = pair.predict(reading.lower[ends].flatten(0, 1), reading.upper[ends].flatten(0, 1))
    alone, together = (bool((of_asked(p, task).gather(1, right) > SURE).all()) for p in predicted)
    return alone, together
