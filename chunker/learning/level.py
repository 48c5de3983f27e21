"""A level: one recurrent predictor, over a whole sequence (`forward`) or one input at a time (`step`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from chunker.config import (
    CELLS,
    CONFIDENCES,
    GATES_PER_CELL,
    GUESSES,
    NO_GUESS,
    TIME_BOUNDS,
    TIME_BUCKETS,
    NGrams,
    StackConfig,
)
from chunker.errors import UsageError
from chunker.learning.ngrams import ngram_code, ngram_rows
from chunker.learning.observation import Categorical, Gaussian, Observation, at_least_float32
from chunker.learning.packing import pick
from chunker.learning.recurrence import recur


@dataclass(frozen=True)
class LevelState:
    """What a level remembers, B rows.

    h: (B, H) hidden state. c: (B, H) the LSTM's cell, else None.
    since: (B,) int64, symbols since this level's last input. fresh: (B,) bool, no input received yet.
    waited: (B, l) int64, inputs of levels 0 .. l-1 since level l's last input.
    remembered: (B, l, TIME_BUCKETS) int64, on each of these clocks the last time in each bucket of the time
        code, 0 if there was none. Both None unless the level predicts times.
    recent: (B, longest - 1) int64, the last symbols plus one, latest first, 0 for none; None unless the level
        reads n-grams. word: (B,) int64, the key of the letters right before, see `follow_word`; None unless
        it reads words.
    last: (B, D) the last input; None unless inputs are vectors.
    """

    h: Tensor
    since: Tensor
    fresh: Tensor
    c: Tensor | None = None
    waited: Tensor | None = None
    remembered: Tensor | None = None
    recent: Tensor | None = None
    word: Tensor | None = None
    last: Tensor | None = None

    def detach(self) -> LevelState:
        return replace(self, h=self.h.detach(), c=None if self.c is None else self.c.detach())

    def reset(self, rows: Tensor) -> LevelState:
        """The state with the rows (B,) bool made cold."""

        def kept(name: str) -> Tensor | None:
            tensor: Tensor | None = getattr(self, name)
            return None if tensor is None else tensor * ~rows.view(-1, *[1] * (tensor.dim() - 1))

        state = self._each(kept)
        return replace(state, fresh=self.fresh | rows)

    def to(self, device: torch.device | str) -> LevelState:
        def moved(name: str) -> Tensor | None:
            tensor: Tensor | None = getattr(self, name)
            return None if tensor is None else tensor.to(device)

        return self._each(moved)

    def _each(self, change: Callable[[str], Any]) -> LevelState:
        """With every field as `change` makes it of its name."""
        return LevelState(**{field.name: change(field.name) for field in fields(self)})


class Level(nn.Module):
    """One recurrent predictor of its own next input, a symbol or a vector.

        symbol --table, or vector --W--.
        time ----table-----------------+--> pre-activation --cell--> h --readout--> prediction of the next
        state below ------------W------'          ^-----------------'

    Everything that a level reads enters its pre-activation by addition: the symbol's or vector's embedding;
    for upper levels that of the time since their last input, log-scaled; in joint stacks the state of the
    level below; for a level 0 with n-grams their vector. A vector is predicted as the last one times
    `persistence` (D,) plus what the state adds. Upper levels of a faithful `Stack` also predict the time of
    their next input: its bucket, and within the bucket the last time that fell there.

    In an archive the contexts may let level 0 sleep, and tell it for how long and what they expected
    (`chunker.config.Wake`). Here nothing lets it sleep: it reads that one symbol has passed, and no guess.

    Parameters
    ----------
    observation: of its inputs. width: H hidden units. cell: "rnn", "gru" or "lstm".
    timed: reads the time since its last input. below: width of the state, or n-gram vector, that it reads; 0:
        none.
    ngrams, guess: of a level 0.
    clocks: levels below on whose clocks it predicts times; 0: it predicts none.
    readout_std: standard deviation of the read-out's first weights.
    """

    def __init__(
        self,
        observation: Observation,
        width: int,
        cell: str = "gru",
        *,
        timed: bool = False,
        below: int = 0,
        ngrams: NGrams | None = None,
        guess: bool = False,
        clocks: int = 0,
        readout_std: float = 0.06,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise UsageError(f"cell {cell!r} is not known; choose one of {', '.join(CELLS)}")
        blocks = GATES_PER_CELL[cell]
        inner = blocks * width
        self.observation, self.width, self.cell = observation, width, cell
        self.timed, self.ngrams, self.clocks = timed, ngrams, clocks
        self.ngram_dropout = 0.0  # in training alone; see `TrainConfig`
        table = torch.randn(observation.size, inner)
        vectors = isinstance(observation, Gaussian)
        self.symbol_input = None if vectors else nn.Parameter(table)
        self.vector_input = nn.Parameter(table * observation.size**-0.5) if vectors else None
        self.time_input = nn.Parameter(torch.zeros(TIME_BUCKETS, inner)) if timed else None
        self.guess_input = nn.Parameter(torch.zeros(GUESSES, inner)) if guess else None
        self.confidence_input = nn.Parameter(torch.zeros(CONFIDENCES, inner)) if guess else None
        self.ngram_table = nn.Parameter(_initial_table(ngrams)) if ngrams else None
        self.below = nn.Parameter(_orthogonal(below, width, blocks) * 0.5) if below else None
        self.recurrent = nn.Parameter(_orthogonal(width, width, blocks))
        self.candidate_bias = nn.Parameter(torch.zeros(width)) if cell == "gru" else None
        self.bias = nn.Parameter(_initial_bias(cell, width))
        self.readout = nn.Parameter(torch.randn(width, observation.outputs) * readout_std)
        self.readout_bias = nn.Parameter(torch.zeros(observation.outputs))
        self.persistence = nn.Parameter(torch.full((observation.size,), 0.5)) if vectors else None
        timing = clocks * TIME_BUCKETS
        self.time_readout = nn.Parameter(torch.randn(width, timing) * readout_std) if timing else None
        self.time_readout_bias = nn.Parameter(torch.zeros(timing)) if timing else None
        self.register_buffer("time_bounds", torch.tensor(TIME_BOUNDS), persistent=False)
        self.time_bounds: Tensor

    @classmethod
    def of(cls, config: StackConfig, index: int) -> Level:
        """Level `index` of a stack over symbols."""
        return cls(
            Categorical(config.symbols),
            config.levels[index],
            config.cell,
            timed=config.told_time(index),
            below=config.below(index),
            ngrams=config.ngrams if index == 0 else None,
            guess=index == 0 and config.told_guess,
            clocks=index if config.predicts_time(index) else 0,
        )

    def start(self, batch: int) -> LevelState:
        """A cold state for `batch` rows."""
        h = self.bias.new_zeros(batch, self.width)
        times = torch.zeros(batch, self.clocks, TIME_BUCKETS, dtype=torch.int64, device=h.device)
        recent = None if self.ngrams is None else times.new_zeros(batch, self.ngrams.longest - 1)
        return LevelState(
            h=h,
            c=h.clone() if self.cell == "lstm" else None,
            since=torch.zeros(batch, dtype=torch.int64, device=h.device),
            fresh=torch.ones(batch, dtype=torch.bool, device=h.device),
            waited=times[..., 0] if self.clocks else None,
            remembered=times if self.clocks else None,
            recent=recent,
            word=times.new_zeros(batch) if self.ngrams is not None and self.ngrams.word else None,
            last=None if self.persistence is None else h.new_zeros(batch, self.observation.size),
        )

    def preactivation(
        self,
        inputs: Tensor,
        times: Tensor | None,
        below: Tensor | None,
        guesses: Tensor | None = None,
        confidences: Tensor | None = None,
    ) -> Tensor:
        """(T, B, G*H) from inputs (T, B[, D]), times since the last input (T, B), what is below (T, B, H').

        times: None where it is 1 throughout, as for level 0. guesses, confidences: (T, B), of the contexts,
        see `chunker.config.Wake`; None: there is no guess.
        """
        if self.vector_input is not None:
            a = inputs.to(self.bias.dtype) @ self.vector_input + self.bias
        elif self.symbol_input is not None:
            a = nn.functional.embedding(inputs, self.symbol_input) + self.bias
        else:
            raise TypeError("this level reads nothing")
        if self.time_input is not None:
            buckets = self.buckets(
                inputs.new_ones(a.shape[:2], dtype=torch.int64) if times is None else times
            )
            a = a + nn.functional.embedding(buckets, self.time_input)
        if self.guess_input is not None and self.confidence_input is not None:
            if guesses is None or confidences is None:
                a = a + (self.guess_input[NO_GUESS] + self.confidence_input[0])
            else:
                embed = nn.functional.embedding
                a = a + embed(guesses, self.guess_input) + embed(confidences, self.confidence_input)
        if self.below is not None and below is not None:
            a = a + (below @ self.below).to(a.dtype)
        return a

    def forward(
        self, inputs: Tensor, state: LevelState, times: Tensor | None = None, below: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """States (T, B, H) after each of T inputs, and the LSTM's cells; see `preactivation`."""
        if self.ngrams is not None and self.ngram_table is not None and state.recent is not None:
            rows = ngram_rows(inputs, state.recent, state.word, self.ngrams)
            below = ngram_code(self.ngram_table, rows, self.ngram_dropout if self.training else 0.0)
        a = self.preactivation(inputs, times, below)
        return recur(self.cell, a, state.h, state.c, self.recurrent, self.candidate_bias)

    def run(
        self,
        inputs: Tensor,
        state: LevelState,
        times: Tensor | None = None,
        below: Tensor | None = None,
        count: Tensor | None = None,
    ) -> tuple[Tensor, LevelState]:
        """As `forward`: states (1 + T, B, H), the first being that of before, and the state afterwards.

        count: (B,) int64, how many of the T inputs each row has, the rest being filling; None: all. Of the
        state afterwards only h, c and last are new.
        """
        hs, cs = self.forward(inputs, state, times, below)
        values = torch.cat([state.h.unsqueeze(0), hs])
        if count is None:
            last = inputs[-1].to(values.dtype) if state.last is not None and len(inputs) else state.last
            return values, replace(
                state, h=values[-1], c=state.c if not len(hs) or cs is None else cs[-1], last=last
            )

        def after(before: Tensor | None, each: Tensor | None) -> Tensor | None:
            if before is None or each is None:
                return None
            return pick(torch.cat([before.unsqueeze(0), each.to(before.dtype)]), count.unsqueeze(0))[0]

        h = pick(values, count.unsqueeze(0))[0]
        return values, replace(state, h=h, c=after(state.c, cs), last=after(state.last, inputs))

    def step(
        self, inputs: Tensor, state: LevelState, times: Tensor | None = None, below: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """h (B, H) and c after one input; inputs (B,) or (B, D), times (B,), below (B, H')."""
        one = [None if x is None else x.unsqueeze(0) for x in (times, below)]
        hs, cs = self.forward(inputs.unsqueeze(0), state, *one)
        return hs[0], None if cs is None else cs[0]

    def logits(self, h: Tensor, bias: bool = True) -> Tensor:
        """(..., V or 2 D) from states (..., H); without bias where added to a lower level's logits."""
        z = at_least_float32(h @ self.readout)
        return z + self.readout_bias if bias else z

    def predict(self, h: Tensor, last: Tensor | None) -> Tensor:
        """The next input's prediction (..., V or 2 D) from states (..., H) and last vectors (..., D)."""
        outputs = self.logits(h)
        if not isinstance(self.observation, Gaussian) or self.persistence is None or last is None:
            return outputs
        return self.observation.distribution(outputs, last.to(outputs.dtype) * self.persistence)

    def predictions(self, inputs: Tensor, values: Tensor, last: Tensor | None) -> Tensor:
        """(T, B, V or 2 D): what was predicted before each of T inputs; values (1 + T, B, H) are those of
        `run`, last (B, D) is the input before the first."""
        lasts = None if last is None else torch.cat([last.to(inputs.dtype).unsqueeze(0), inputs[:-1]])
        return self.predict(values[:-1], lasts)

    def buckets(self, times: Tensor) -> Tensor:
        """The bucket of each time >= 1 in the log-scaled time code, shape of `times`."""
        return torch.bucketize(times.contiguous(), self.time_bounds)

    def time_logits(self, h: Tensor) -> Tensor:
        """(..., l, TIME_BUCKETS) of the time until the next input, on each clock, from states (..., H)."""
        if self.time_readout is None or self.time_readout_bias is None:
            raise TypeError("this level does not predict times")
        z = at_least_float32(h @ self.time_readout) + self.time_readout_bias
        return z.view(*z.shape[:-1], self.clocks, TIME_BUCKETS)


def _initial_table(ngrams: NGrams) -> Tensor:
    """Zeros: an n-gram that training never met then adds nothing; training from them is faster, too."""
    return torch.zeros(ngrams.tables * ngrams.rows, ngrams.width)


def _orthogonal(rows: int, width: int, blocks: int) -> Tensor:
    return torch.cat([nn.init.orthogonal_(torch.empty(rows, width)) for _ in range(blocks)], 1)


def _initial_bias(cell: str, width: int) -> Tensor:
    """Zero, but for the LSTM's forget gate (Jozefowicz et al. 2015)."""
    bias = torch.zeros(GATES_PER_CELL[cell] * width)
    if cell == "lstm":  # blocks i, f, o, u
        bias[width : 2 * width] = 1.0
    return bias
