"""Training as coding works: level 1 steps only at the bytes at which it wakes, and is scored through the mixture.

At a byte before whose bit k level 0 became unsure, the levels predict the 256 byte values; for each bit j >= k this
gives the odds of the values that agree with the bits before it. The loss is the code length of these bits, in nats,

    sum over j >= k of -log p_j(bit_j),    p_j = sigmoid(a stretch(level 0's p_j) + b stretch(the levels' p_j))

with level 0's p_j as it was foretold (chunker.learning.foretold), and a and b learned for each j and each degree of level
0's certainty. The codec's mixture has more inputs and goes on learning; these two stand for it. So the levels learn
what the contexts do not know, and windows count a level's own steps: in the same steps they read several times as much
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from chunker.config import NGrams, StackConfig
from chunker.core.ngrams import BASE, SPREAD
from chunker.learning.foretold import Foretold
from chunker.learning.level import Level, LevelState
from chunker.learning.ngrams import ngram_code
from chunker.learning.recurrence import recur
from chunker.learning.stack import Stack

NATS_PER_BIT = 0.6931471805599453
CERTAINTIES = 12  # degrees of |stretch(p)|, one a nat and a half up to 12 bits


@dataclass(frozen=True)
class Window:
    """T woken steps of B rows. Integers (T, B) unless said otherwise.

    symbols: the byte before the one that is predicted. times: bytes since the row's last step. guesses,
    confidences: of level 0. ngrams: (orders, T, B) rows of the table. targets: the byte that came. woke: the first bit
    that the levels are asked for. odds: (T, B, 8) float32, of a 1 before each bit as level 0 had them, in nats.
    counted: (T, B) bool, steps that are any. cold: (B,) bool, rows that begin a block.
    """

    symbols: Tensor
    times: Tensor
    guesses: Tensor
    confidences: Tensor
    ngrams: Tensor | None
    targets: Tensor
    woke: Tensor
    odds: Tensor
    counted: Tensor
    cold: Tensor

    def to(self, device: torch.device) -> Window:
        parts = {n: None if t is None else t.to(device) for n, t in vars(self).items()}
        return Window(**parts)


class Windows:
    """Endless windows from B rows, each of which reads block after block of the sources, drawn by weight.

    A block is drawn with a probability in proportion to its source's weight and to its steps.
    """

    def __init__(
        self,
        sources: Sequence[Foretold],
        weights: Sequence[float],
        ngrams: NGrams | None,
        batch: int,
        window: int,
        seed: int = 0,
    ) -> None:
        self._sources, self._ngrams = sources, ngrams
        self.batch, self.window = batch, window
        self._rng = np.random.default_rng(seed)
        self._blocks = [(s, b) for s, source in enumerate(sources) for b in range(len(source.blocks))]
        sizes = np.array([self._steps(s, b) for s, b in self._blocks], dtype=np.float64)
        share = np.array([weights[s] for s, _ in self._blocks]) * sizes
        self._share = np.cumsum(share / share.sum())
        self._rows: list[list[int]] = [[0, 0, 0, 0] for _ in range(batch)]  # source, block, next step, end

    def _steps(self, source: int, block: int) -> int:
        where = self._sources[source].block(block)[1]
        return where.stop - where.start

    def _draw(self, row: list[int]) -> None:
        index = min(int(np.searchsorted(self._share, self._rng.random())), len(self._blocks) - 1)
        source, block = self._blocks[index]
        where = self._sources[source].block(block)[1]
        row[:] = [source, block, where.start, where.stop]

    def next(self) -> Window:
        """The next window."""
        T, B = self.window, self.batch
        shape = (B, T)
        symbols, targets, woke = (np.zeros(shape, np.uint8) for _ in range(3))
        guesses, confidences = np.full(shape, 256, np.int64), np.zeros(shape, np.uint8)
        times, counted = np.ones(shape, np.int64), np.zeros(shape, bool)
        probabilities = np.full((*shape, 8), 32768, np.uint16)
        orders = 0 if self._ngrams is None else len(self._ngrams.orders)
        rows = np.zeros((orders, *shape), np.int64)
        cold = np.zeros(B, bool)
        for b, row in enumerate(self._rows):
            while row[2] >= row[3]:
                self._draw(row)
                cold[b] = True
            source, block, begin, end = row
            found = self._sources[source]
            end = min(end, begin + T)
            row[2] = end
            steps, n = found.steps[begin:end], end - begin
            bytes_, first = found.block(block)
            at = steps["position"].astype(np.int64)
            before = found.steps["position"][begin - 1] if begin > first.start else bytes_.start
            times[b, :n] = np.diff(at, prepend=before)
            symbols[b, :n], targets[b, :n] = found.text[at - 1], found.text[at]
            woke[b, :n], confidences[b, :n] = steps["woke"], steps["confidence"]
            guesses[b, :n] = np.where(steps["confidence"] > 0, steps["guess"], 256)
            probabilities[b, :n], counted[b, :n] = steps["probability"], True
            if self._ngrams is not None:
                rows[:, b, :n] = ngram_rows_at(found.text, at, bytes_.start, self._ngrams)
        p = probabilities.astype(np.float32)
        odds = np.log(p) - np.log(65536 - p)
        turned = (symbols, times, guesses, confidences)
        turned = tuple(torch.from_numpy(x.T.astype(np.int64)) for x in turned)
        return Window(
            *turned,
            torch.from_numpy(rows.transpose(0, 2, 1).copy()) if orders else None,
            torch.from_numpy(targets.T.astype(np.int64)),
            torch.from_numpy(woke.T.astype(np.int64)),
            torch.from_numpy(odds.transpose(1, 0, 2).copy()),
            torch.from_numpy(counted.T.copy()),
            torch.from_numpy(cold),
        )

    def position(self) -> dict[str, Any]:
        """For `seek`."""
        return {"rows": [list(map(int, row)) for row in self._rows], "random": self._rng.bit_generator.state}

    def seek(self, position: dict[str, Any]) -> None:
        """Go on where `position` was taken."""
        self._rows = [list(row) for row in position["rows"]]
        self._rng.bit_generator.state = position["random"]


def ngram_rows_at(
    text: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], begin: int, config: NGrams
) -> npt.NDArray[np.int64]:
    """Which rows of the table the n-grams that end before the positions `at` (n,) are: (orders, n).

    Before `begin`, where the block starts, there is nothing.
    """
    shift = np.uint32(32 - (config.rows.bit_length() - 1))
    key, power = np.zeros(len(at), np.uint32), 1
    rows = []
    for k in range(1, config.longest + 1):
        there = at - k >= begin
        symbol = np.where(there, text[np.maximum(at - k, 0)].astype(np.uint32) + np.uint32(1), np.uint32(0))
        key = key + symbol * np.uint32(power)
        power = power * BASE & 0xFFFFFFFF
        if k in config.orders:
            spread = key * np.uint32(SPREAD)
            row = spread >> shift if shift < 32 else np.zeros_like(spread)
            rows.append(row.astype(np.int64) + len(rows) * config.rows)
    return np.stack(rows)


def preactivation(level: Level, window: Window, dropout: float = 0.0) -> Tensor:
    """(T, B, G*H) of level 1 at the steps of a window."""
    embed = nn.functional.embedding
    a = embed(window.symbols, level.symbol_input) + level.bias
    if level.time_input is not None:
        a = a + embed(level.buckets(window.times), level.time_input)
    if level.guess_input is not None and level.confidence_input is not None:
        a = a + embed(window.guesses, level.guess_input) + embed(window.confidences, level.confidence_input)
    if level.below is not None and level.ngram_table is not None and window.ngrams is not None:
        a = a + (ngram_code(level.ngram_table, window.ngrams, dropout) @ level.below).to(a.dtype)
    return a


def path_odds(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, 8): the logarithm of odds of a 1 before each bit of the targets (N,), in nats, from logits (N, 256)."""
    mass = torch.softmax(logits, -1)
    odds = []
    for j in range(7, -1, -1):
        # mass: (N, 2**(j+1)) of the prefixes of j + 1 bits
        prefix = (targets >> (8 - j)).unsqueeze(1)
        pair = mass.view(len(mass), -1, 2).gather(1, prefix.unsqueeze(2).expand(-1, -1, 2)).squeeze(1)
        pair = (pair + 1e-12).log()
        odds.append(pair[:, 1] - pair[:, 0])
        mass = mass.view(len(mass), -1, 2).sum(-1)
    return torch.stack(odds[::-1], 1)


class Mixture(nn.Module):
    """p = sigmoid(a o_0 + b o_1), a and b by bit and by level 0's certainty."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((8, CERTAINTIES, 2), 0.5))
        self.register_buffer("bit", torch.arange(8), persistent=False)
        self.bit: Tensor

    def forward(self, foretold: Tensor, odds: Tensor) -> Tensor:
        """The logarithm of odds (N, 8) from level 0's (N, 8) and the levels' (N, 8)."""
        certainty = (foretold.abs() / 1.0).long().clamp_(max=CERTAINTIES - 1)
        weight = self.weight[self.bit, certainty]
        return weight[..., 0] * foretold + weight[..., 1] * odds


def code_nats(odds: Tensor, window: Window) -> Tensor:
    """(T, B): what each byte's bits from `woke` on take at odds (T, B, 8), in nats."""
    j = torch.arange(8, device=odds.device)
    bits = (window.targets.unsqueeze(-1) >> (7 - j) & 1).to(odds.dtype)
    asked = (j >= window.woke.unsqueeze(-1)) & window.counted.unsqueeze(-1)
    cost = nn.functional.binary_cross_entropy_with_logits(odds, bits, reduction="none")
    return (cost * asked).sum(-1)


class WokenStack(nn.Module):
    """A stack with the mixture that it is trained through."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.stack = Stack(config)
        self.mixture = Mixture()

    def start(self, batch: int) -> list[LevelState]:
        levels = (level for level in self.stack.levels if isinstance(level, Level))
        return [level.start(batch) for level in levels]

    def forward(
        self, window: Window, states: list[LevelState], dropout: float = 0.0
    ) -> tuple[Tensor, list[LevelState]]:
        """(T, B) nats of the bytes of a window, and the states after it, detached."""
        logits, after = self.logits(window, states, dropout)
        T, B = window.targets.shape
        odds = path_odds(logits.reshape(T * B, -1), window.targets.reshape(-1))
        mixed = self.mixture(window.odds.reshape(T * B, 8), odds).view(T, B, 8)
        return code_nats(mixed, window), after

    def logits(
        self, window: Window, states: list[LevelState], dropout: float = 0.0
    ) -> tuple[Tensor, list[LevelState]]:
        """(T, B, 256), what all levels together hold of the bytes; and the states after them, detached."""
        keep = (~window.cold).unsqueeze(1)
        level = self.stack.levels[0]
        assert isinstance(level, Level)
        h = states[0].h * keep
        c = None if states[0].c is None else states[0].c * keep
        a = preactivation(level, window, dropout)
        hs, cs = recur(level.cell, a, h, c, level.recurrent, level.candidate_bias)
        after = replace(states[0], h=hs[-1].detach(), c=None if cs is None else cs[-1].detach())
        return level.logits(hs), [after]
