"""A level: one recurrent predictor, over a whole sequence (`forward`) or one input at a time (`step`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from chunker.config import (
    CONFIDENCES,
    GATES_PER_CELL,
    GUESSES,
    NO_GUESS,
    TIME_BOUNDS,
    TIME_BUCKETS,
    NGrams,
    StackConfig,
)
from chunker.learning.ngrams import ngram_code, ngram_rows
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
        is told n-grams.
    """

    h: Tensor
    c: Tensor | None
    since: Tensor
    fresh: Tensor
    waited: Tensor | None = None
    remembered: Tensor | None = None
    recent: Tensor | None = None

    def detach(self) -> LevelState:
        return replace(self, h=self.h.detach(), c=None if self.c is None else self.c.detach())

    def reset(self, rows: Tensor) -> LevelState:
        """The state with the rows (B,) bool made cold."""
        keep = (~rows).unsqueeze(1)
        return LevelState(
            h=self.h * keep,
            c=None if self.c is None else self.c * keep,
            since=self.since.masked_fill(rows, 0),
            fresh=self.fresh | rows,
            waited=None if self.waited is None else self.waited * keep,
            remembered=None if self.remembered is None else self.remembered * keep.unsqueeze(2),
            recent=None if self.recent is None else self.recent * keep,
        )

    def to(self, device: torch.device | str) -> LevelState:
        return LevelState(
            h=self.h.to(device),
            c=None if self.c is None else self.c.to(device),
            since=self.since.to(device),
            fresh=self.fresh.to(device),
            waited=None if self.waited is None else self.waited.to(device),
            remembered=None if self.remembered is None else self.remembered.to(device),
            recent=None if self.recent is None else self.recent.to(device),
        )


class Level(nn.Module):
    """One recurrent predictor of its own next input.

    An input is a symbol, for upper levels together with the time since their last input (log-scaled code),
    in joint mode together with the state of the level below, for level 0 with the vector of its n-grams
    if it is told any. All inputs enter the pre-activation by addition; symbol and time by a table look-up.
    Upper levels of a faithful stack also predict the time of their next input: its bucket, and within the
    bucket the last time that fell there.

    Of what a level 0 may be told where contexts let it sleep (`chunker.config.Wake`) it is told here what
    holds where none do: that no time has passed, and no guess.

        symbol --table--.
        time ----table--+--> pre-activation --cell--> h --readout--> logits of the next input
        below ----W-----'          ^-----------------'
    """

    def __init__(self, config: StackConfig, index: int) -> None:
        super().__init__()
        below = config.below(index)
        width, blocks = config.levels[index], config.gates_per_cell
        self.cell, self.width, self.timed = config.cell, width, config.told_time(index)
        self.symbol_input = nn.Parameter(torch.randn(config.symbols, blocks * width))
        self.time_input = nn.Parameter(torch.zeros(TIME_BUCKETS, blocks * width)) if self.timed else None
        guess = blocks * width if index == 0 and config.told_guess else 0
        self.guess_input = nn.Parameter(torch.zeros(GUESSES, guess)) if guess else None
        self.confidence_input = nn.Parameter(torch.zeros(CONFIDENCES, guess)) if guess else None
        self.ngrams = config.ngrams if index == 0 else None
        self.ngram_dropout = 0.0  # in training alone; see `TrainConfig`
        self.ngram_table = nn.Parameter(_initial_table(self.ngrams)) if self.ngrams else None
        self.below = nn.Parameter(_orthogonal(below, width, blocks) * 0.5) if below else None
        self.recurrent = nn.Parameter(_orthogonal(width, width, blocks))
        self.candidate_bias = nn.Parameter(torch.zeros(width)) if config.cell == "gru" else None
        self.bias = nn.Parameter(_initial_bias(config.cell, width))
        self.readout = nn.Parameter(torch.randn(width, config.symbols) * 0.06)
        self.readout_bias = nn.Parameter(torch.zeros(config.symbols))
        self.clocks = index if config.predicts_time(index) else 0
        timing = self.clocks * TIME_BUCKETS
        self.time_readout = nn.Parameter(torch.randn(width, timing) * 0.06) if timing else None
        self.time_readout_bias = nn.Parameter(torch.zeros(timing)) if timing else None
        self.register_buffer("time_bounds", torch.tensor(TIME_BOUNDS), persistent=False)
        self.time_bounds: Tensor

    def start(self, batch: int) -> LevelState:
        """A cold state for `batch` rows."""
        h = self.bias.new_zeros(batch, self.width)
        times = torch.zeros(batch, self.clocks, TIME_BUCKETS, dtype=torch.int64, device=h.device)
        return LevelState(
            h=h,
            c=h.clone() if self.cell == "lstm" else None,
            since=torch.zeros(batch, dtype=torch.int64, device=h.device),
            fresh=torch.ones(batch, dtype=torch.bool, device=h.device),
            waited=times[..., 0] if self.clocks else None,
            remembered=times if self.clocks else None,
            recent=self._nothing_recent(batch),
        )

    def _nothing_recent(self, batch: int) -> Tensor | None:
        if self.ngrams is None:
            return None
        return torch.zeros(batch, self.ngrams.longest - 1, dtype=torch.int64, device=self.bias.device)

    def preactivation(self, symbols: Tensor, times: Tensor | None, below: Tensor | None) -> Tensor:
        """(T, B, G*H) from symbols (T, B), times since the last input (T, B), what is below (T, B, H').

        times: None where it is 1 throughout, as for level 0.
        """
        a = nn.functional.embedding(symbols, self.symbol_input) + self.bias
        if self.time_input is not None:
            buckets = torch.zeros_like(symbols) if times is None else self.buckets(times)
            a = a + nn.functional.embedding(buckets, self.time_input)
        if self.guess_input is not None and self.confidence_input is not None:
            a = a + (self.guess_input[NO_GUESS] + self.confidence_input[0])
        if self.below is not None and below is not None:
            a = a + (below @ self.below).to(a.dtype)
        return a

    def forward(
        self, symbols: Tensor, state: LevelState, times: Tensor | None = None, below: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """States (T, B, H) after each of T inputs, and the LSTM's cells; see `preactivation`."""
        if self.ngrams is not None and self.ngram_table is not None and state.recent is not None:
            rows = ngram_rows(symbols, state.recent, self.ngrams)
            below = ngram_code(self.ngram_table, rows, self.ngram_dropout if self.training else 0.0)
        a = self.preactivation(symbols, times, below)
        return recur(self.cell, a, state.h, state.c, self.recurrent, self.candidate_bias)

    def step(
        self, symbols: Tensor, state: LevelState, times: Tensor | None = None, below: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """h (B, H) and c after one input; symbols (B,), times (B,), below (B, H')."""
        one = [None if x is None else x.unsqueeze(0) for x in (times, below)]
        hs, cs = self.forward(symbols.unsqueeze(0), state, *one)
        return hs[0], None if cs is None else cs[0]

    def logits(self, h: Tensor, bias: bool = True) -> Tensor:
        """(..., V) from states (..., H); without the bias where it is added to a lower level's logits."""
        z = (h @ self.readout).float()
        return z + self.readout_bias if bias else z

    def buckets(self, times: Tensor) -> Tensor:
        """The bucket of each time >= 1 in the log-scaled time code, shape of `times`."""
        return torch.bucketize(times.contiguous(), self.time_bounds)

    def time_logits(self, h: Tensor) -> Tensor:
        """(..., l, TIME_BUCKETS) of the time until the next input, on each clock, from states (..., H)."""
        if self.time_readout is None or self.time_readout_bias is None:
            raise TypeError("this level does not predict times")
        z = (h @ self.time_readout).float() + self.time_readout_bias
        return z.view(*z.shape[:-1], self.clocks, TIME_BUCKETS)


def _initial_table(ngrams: NGrams) -> Tensor:
    """Zero, so that what training never met says nothing; it learns faster than from random vectors, too."""
    return torch.zeros(len(ngrams.orders) * ngrams.rows, ngrams.width)


def _orthogonal(rows: int, width: int, blocks: int) -> Tensor:
    return torch.cat([nn.init.orthogonal_(torch.empty(rows, width)) for _ in range(blocks)], 1)


def _initial_bias(cell: str, width: int) -> Tensor:
    """Zero, but for the LSTM's forget gate (Jozefowicz et al. 2015)."""
    bias = torch.zeros(GATES_PER_CELL[cell] * width)
    if cell == "lstm":  # blocks i, f, o, u
        bias[width : 2 * width] = 1.0
    return bias
